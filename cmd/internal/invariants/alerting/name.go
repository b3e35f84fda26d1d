package alerting

import (
	"strings"
	"unicode"
)

// maxName is the length of an object's name.
const maxName = 253

// dnsName is the name of an alert as the name of an object: TiKV_critical_error becomes tikv-critical-error, and
// PodCPUHigh pod-cpu-high. It is empty if there is nothing in it to make one of.
func dnsName(alert string) string {
	var words []string
	for _, run := range strings.FieldsFunc(alert, func(r rune) bool { return !isAlphanumeric(r) }) {
		words = append(words, camelWords(run)...)
	}
	name := strings.ToLower(strings.Join(words, "-"))
	return strings.TrimRight(name[:min(len(name), maxName)], "-")
}

func isAlphanumeric(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// camelWords are the words of letters and digits that run together: at each capital after a small letter or a digit, and at
// the last capital of several before a small letter. Two letters before several capitals belong to them: TiKV, MySQL.
func camelWords(run string) []string {
	var words []string
	begin := 0
	for i := 1; i < len(run); i++ {
		if !isUpper(run, i) {
			continue
		}
		belongs := i-begin == 2 && isUpper(run, begin) && isUpper(run, i+1)
		afterSmall, lastOfSeveral := !isUpper(run, i-1), isUpper(run, i-1) && isLower(run, i+1)
		if afterSmall && !belongs || lastOfSeveral {
			words = append(words, run[begin:i])
			begin = i
		}
	}
	return append(words, run[begin:])
}

func isUpper(s string, i int) bool { return i < len(s) && unicode.IsUpper(rune(s[i])) }

func isLower(s string, i int) bool { return i < len(s) && unicode.IsLower(rune(s[i])) }
