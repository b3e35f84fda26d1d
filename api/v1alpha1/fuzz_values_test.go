package v1alpha1_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

func quoted(values ...string) []string {
	var tokens []string
	for _, value := range values {
		tokens = append(tokens, strconv.Quote(value))
	}
	return tokens
}

// wrongTokens are JSON as it may stand in a manifest where something else belongs.
var wrongTokens = append([]string{
	"null", "true", "false", "[]", "{}", `[[]]`, `[null]`, `[""]`, `{"":null}`, `{"a":{"b":[1,"2",null]}}`, "0", "-1", "1.0", "1.5", "1e400", "9223372036854775808",
}, quoted("", " ", "x", "null", "0", "true")...)

// textTokens are strings, among them what Go's encoder would never write.
var textTokens = append([]string{
	megabyte, `"\u0000"`, `"\u001b[31m"`, `"\ud800"`, `"\udc00\ud800"`, "\"\xff\xfe\"", `"\ufeff"`, `"\u202eevil"`, `"😀"`, `"a\nb"`, `"\r\n"`,
}, quoted("-", "/", "NaN", "open", "OPEN", "Resolved", "critical", "Critical", "Keep", "{{.}}", "%s%n", "$(reboot)", "../../etc/passwd", "http://", "http://[::1", "http://a b",
	"http://pd:99999", "//pd", "self", strings.Repeat("(", 4000))...)

var numberTokens = []string{
	"-0", "-0.0", "1", "-1.5", "1e3", "1E-3", "-1e400", "0.1e1", "2147483647", "2147483648", "-2147483648", "-2147483649",
	"2147483647.0", "4294967296", "9007199254740993", "9223372036854775807", "-9223372036854775808", "-9223372036854775809",
	"18446744073709551616", "1e18", "1e19", "9.223372036854775807e18", "123456789012345678901234567890",
}

var durationTokens = quoted("0", "0s", "00000s", "1ns", "1us", "1µs", "1μs", "1ms", "99999h", "100000h", "99999h99999h99999h99999h", "99999999999h", "9223372036854775807ns",
	"1h1h1h1h", "1h1h1h1h1h", "-1s", "+1s", "1.5h", ".5h", "1e3s", "1H", "1d", "1 s", " 1s", "1s ", "1s\n", "PT1S", "１s", "1sm", "1m1", "h", "5s5s5s5s", "1000ms", "Infs", "0x1h", "1_0s")

var timeTokens = quoted("2026-11-24T03:00:00Z", "2026-11-24t03:00:00Z", "2026-11-24T03:00:00z", "2026-11-24T23:59:60Z", "2016-12-31T23:59:60Z", "2026-11-24T24:00:00Z", "2026-11-24T23:60:00Z",
	"2026-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-01-00T00:00:00Z", "0000-01-01T00:00:00Z", "0000-00-00T00:00:00Z",
	"0000-01-01T00:00:00+23:59", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "10000-01-01T00:00:00Z", "-0001-01-01T00:00:00Z",
	"2026-11-24T03:00:00+99:99", "2026-11-24T03:00:00+24:00", "2026-11-24T03:00:00+23:59", "2026-11-24T03:00:00-00:00", "2026-11-24T03:00:00+0100", "2026-11-24T03:00:00+01",
	"2026-11-24T03:00:00,5Z", "2026-11-24T03:00:00.5Z", "2026-11-24T03:00:00.Z", "2026-11-24T03:00:00.123456789Z", "2026-11-24T03:00:00.1234567890Z", "2026-11-24T03:00:00."+strings.Repeat("9", 400)+"Z",
	"2026-11-24 03:00:00Z", "2026-11-24T03:00:00", "2026-11-24", "2026-11-24T3:00:00Z", "2026-11-24T03:00Z", "20261124T030000Z", "２０２６-11-24T03:00:00Z", " 2026-11-24T03:00:00Z", "2026-11-24T03:00:00Z\n", "1764000000")

// megabyte is the largest value that is tried; the API server takes requests of 3 MiB, and etcd values of 1.5 MiB.
var megabyte = strconv.Quote(strings.Repeat("x", 1<<20))

// random makes strings of an alphabet.
func random(r *rand.Rand, n int, alphabet []string) []string {
	var tokens []string
	for range n {
		var b strings.Builder
		for range 1 + r.IntN(12) {
			b.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		tokens = append(tokens, strconv.Quote(b.String()))
	}
	return tokens
}

var (
	durationAlphabet = []string{"0", "1", "9", "99999", "12", "h", "m", "s", "ms", "us", "-", "."}
	textAlphabet     = []string{"a", "Z", "0", "-", ".", "/", ":", " ", "é", "漢", "\u0301", "\x01", "\\", "\"", "'", "{", "["}
)

func randomTimes(r *rand.Rand, n int) []string {
	var tokens []string
	for range n {
		tokens = append(tokens, strconv.Quote(fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d%s%s", r.IntN(10000), r.IntN(14), r.IntN(33), r.IntN(25), r.IntN(61), r.IntN(61),
			[]string{"", ".5", ".123456789", ",5"}[r.IntN(4)], []string{"Z", "+01:00", "-23:59", "+24:00", "z"}[r.IntN(5)])))
	}
	return tokens
}

func randomNumbers(r *rand.Rand, n int) []string {
	var tokens []string
	for range n {
		number := strconv.FormatInt(r.Int64()>>r.IntN(63), 10)
		tokens = append(tokens, []string{"", "-"}[r.IntN(2)]+number+[]string{"", ".0", ".5", "e2", "e-1"}[r.IntN(5)])
	}
	return tokens
}

// tokensFor are the values to try in a field.
func tokensFor(s *schema, r *rand.Rand) []string {
	switch {
	case s.Type == "string" && s.Format == "date-time":
		return slices.Concat(wrongTokens, timeTokens, randomTimes(r, 20))
	case s.Type == "string" && strings.Contains(s.Pattern, "h|m|s"):
		return slices.Concat(wrongTokens, durationTokens, random(r, 20, durationAlphabet))
	case s.Type == "string":
		return slices.Concat(wrongTokens, textTokens, random(r, 5, textAlphabet))
	case s.Type == "integer":
		return slices.Concat(wrongTokens, numberTokens, randomNumbers(r, 20))
	}
	return wrongTokens
}
