package observe

import (
	"bytes"
	"io"
)

// QuietLog returns where the standard library's logger is to write in a process that reads sources, which passes all on to w but for what
// net/http quotes of an answer: the bytes that a source sent after its end.
func QuietLog(w io.Writer) io.Writer { return &quietLog{w} }

type quietLog struct{ next io.Writer }

// unsolicited is how the line of net/http begins, after the time; the quote follows.
var unsolicited = []byte("Unsolicited response received on idle HTTP channel")

// Write writes one line: the logger writes each at once.
func (l *quietLog) Write(line []byte) (int, error) {
	written := line
	if before, _, quotes := bytes.Cut(line, unsolicited); quotes {
		written = append(bytes.Clone(before), "a source sent more than one answer; the rest is ignored\n"...)
	}
	if _, err := l.next.Write(written); err != nil {
		return 0, err
	}
	return len(line), nil
}
