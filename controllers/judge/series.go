package judge

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
)

// metricName is the label that Prometheus keeps a metric's name in.
const metricName = "__name__"

// labelsID is the ID of a series where the Invariant names none: its labels, sorted, without the metric's name, as an alert has
// them. What is too long ends in a hash.
func labelsID(reading any) string {
	fields, _ := reading.(map[string]any)
	labels, _ := fields["labels"].(map[string]any)
	parts := make([]string, 0, len(labels))
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != metricName {
			parts = append(parts, fmt.Sprintf("%s=%q", labelText(name), labels[name]))
		}
	}
	id := strings.Join(parts, ",")
	if len(id) <= MaxStoreID {
		return id
	}
	hash := fmt.Sprintf("#%x", sha256.Sum256([]byte(id)))[:17]
	cut := MaxStoreID - len(hash)
	for !utf8.RuneStart(id[cut]) {
		cut--
	}
	return id[:cut] + hash
}

// labelText writes a label's name as PromQL does: in quotes where it may hold anything.
func labelText(name string) string {
	if model.LegacyValidation.IsValidLabelName(name) {
		return name
	}
	return strconv.Quote(name)
}
