package judge

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"invariant.dev/operator/controllers/verdict"
)

// maxSnapshot is the length of a snapshot's value, in bytes; the API server enforces the same number of characters.
const maxSnapshot = 1024

// encode writes a value as a person would read it: a string as it is, anything else as JSON. It stops at
// maxSnapshot bytes, however large the value.
func encode(value ref.Val) (text string, truncated bool) {
	if s, ok := value.(types.String); ok {
		text = strings.ToValidUTF8(string(s), "�")
	} else {
		var b strings.Builder
		write(&b, value)
		text = b.String()
	}
	return verdict.Truncate(text, maxSnapshot), len(text) > maxSnapshot
}

// write writes JSON until there is more than is kept.
func write(b *strings.Builder, value ref.Val) {
	if b.Len() > maxSnapshot {
		return
	}
	switch v := value.(type) {
	case *types.Optional:
		if !v.HasValue() {
			b.WriteString("null")
			return
		}
		write(b, v.GetValue())
	case traits.Mapper:
		writeMap(b, v)
	case traits.Lister:
		writeList(b, v)
	default:
		writeScalar(b, value)
	}
}

func writeList(b *strings.Builder, list traits.Lister) {
	b.WriteByte('[')
	for it, first := list.Iterator(), true; it.HasNext() == types.True && b.Len() <= maxSnapshot; first = false {
		if !first {
			b.WriteByte(',')
		}
		write(b, it.Next())
	}
	b.WriteByte(']')
}

// writeMap writes the keys in order, so that the same evidence reads the same; of a map too large to sort for
// what is kept of it, the keys come as they are.
func writeMap(b *strings.Builder, m traits.Mapper) {
	var keys []ref.Val
	for it := m.Iterator(); it.HasNext() == types.True && len(keys) <= maxSnapshot; {
		keys = append(keys, it.Next())
	}
	slices.SortFunc(keys, func(a, b ref.Val) int { return strings.Compare(keyText(a), keyText(b)) })
	b.WriteByte('{')
	for i, key := range keys {
		if i > 0 {
			b.WriteByte(',')
		}
		writeScalar(b, types.String(keyText(key)))
		b.WriteByte(':')
		write(b, m.Get(key))
	}
	b.WriteByte('}')
}

func keyText(key ref.Val) string { return fmt.Sprint(key.Value()) }

func writeScalar(b *strings.Builder, value ref.Val) {
	switch v := value.(type) {
	case types.Null:
		b.WriteString("null")
	case types.Timestamp, types.Duration:
		writeScalar(b, value.ConvertToType(types.StringType))
	default:
		content := v.Value()
		if text, ok := content.(*url.URL); ok {
			content = text.String()
		}
		encoded, err := json.Marshal(content)
		if err != nil {
			// NaN and infinities, for which JSON has no word.
			encoded = []byte(fmt.Sprint(content))
		}
		b.Write(encoded)
	}
}
