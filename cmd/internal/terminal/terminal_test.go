package terminal

import "testing"

func TestWhatATerminalWouldObeyIsShownEscaped(t *testing.T) {
	for name, c := range map[string]struct{ in, line, block string }{
		"plain text stays":            {"store 3 is \"Down\" \\o/ é 日本", "store 3 is \"Down\" \\o/ é 日本", "store 3 is \"Down\" \\o/ é 日本"},
		"escape sequences":            {"\x1b[2J\x1b]0;pwned\x07", `\x1b[2J\x1b]0;pwned\a`, `\x1b[2J\x1b]0;pwned\a`},
		"the one-byte CSI of Latin-1": {"\u009b31m", `\u009b31m`, `\u009b31m`},
		"bytes that are not UTF-8":    {"a\x9b31m\xff", `a\x9b31m\xff`, `a\x9b31m\xff`},
		"a true replacement mark":     {"\ufffd", `\ufffd`, `\ufffd`},
		"text turned around":          {"abc\u202edef", `abc\u202edef`, `abc\u202edef`},
		"carriage return, backspace":  {"ok\r\bno", `ok\r\bno`, `ok\r\bno`},
		"line breaks and tabs":        {"a\n\tb\r\nc", `a\n\tb\r\nc`, "a\n    b\nc"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Line(c.in); got != c.line {
				t.Errorf("Line: got %q, want %q", got, c.line)
			}
			if got := Block(c.in); got != c.block {
				t.Errorf("Block: got %q, want %q", got, c.block)
			}
		})
	}
}
