package verdict

import "unicode/utf8"

// Truncate cuts s to at most limit bytes, at the end of a character, and marks the cut with an ellipsis.
func Truncate(s string, limit int) string {
	const ellipsis = "…"
	if len(s) <= limit {
		return s
	}
	cut := limit - len(ellipsis)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
