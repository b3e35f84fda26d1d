// Package terminal makes text that others wrote safe to show on a terminal.
package terminal

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line is s on one line: what a terminal would obey instead of showing (control characters, escape sequences,
// marks that turn the direction of the text) is written as Go writes it, such as \x1b, \n and \u202e. So are
// bytes that are not UTF-8.
func Line(s string) string {
	if strings.IndexFunc(s, unsafe) < 0 {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		if unsafe(r) {
			b.WriteString(strings.Trim(strconv.QuoteToASCII(s[:size]), `"`))
		} else {
			b.WriteString(s[:size])
		}
		s = s[size:]
	}
	return b.String()
}

// Block is s as it is laid out, line breaks kept and tabs as four spaces; each of its lines is safe as in Line.
func Block(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\r\n", "\n"), "\n")
	for i, line := range lines {
		lines[i] = Line(strings.ReplaceAll(line, "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// Cell is s as a cell of a table whose last column it is in: its first line as it is, and what follows below it, behind indent.
// Each line is safe as in Line.
func Cell(s, indent string) string {
	return strings.ReplaceAll(strings.TrimRight(Block(s), "\n"), "\n", "\n"+indent)
}

func unsafe(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
