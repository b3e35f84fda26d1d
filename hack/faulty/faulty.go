// Package faulty runs servers that fail in the ways in which servers do, for tests. Each listens on a free loopback port,
// and ends with its test. What it answers holds the word Secret, so that a test can see that nobody repeats it.
package faulty

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Secret stands in what the servers answer: in headers, bodies and status lines.
const Secret = "s3cr3t"

// Head begins an answer that has a status of 200; more headers, or an empty line, follow.
const Head = "HTTP/1.1 200 OK\r\nX-Note: " + Secret + "\r\n"

// Answering returns the address of a server that does with each request's connection what it is told, and then closes it.
// release is closed when the test ends.
func Answering(tb testing.TB, do func(conn net.Conn, release <-chan struct{})) string {
	tb.Helper()
	return "http://" + serve(tb, func(conn net.Conn, release <-chan struct{}) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			do(conn, release)
		}
	})
}

// serve listens, and does with each connection what it is told.
func serve(tb testing.TB, do func(conn net.Conn, release <-chan struct{})) (address string) {
	tb.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	release := make(chan struct{})
	tb.Cleanup(func() { close(release); _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				do(conn, release)
			}()
		}
	}()
	return listener.Addr().String()
}

// Saying returns the address of a server that answers these bytes and closes.
func Saying(tb testing.TB, answer string) string {
	tb.Helper()
	return Answering(tb, func(conn net.Conn, _ <-chan struct{}) { _, _ = conn.Write([]byte(answer)) })
}

// Body returns the address of a server that answers with a status of 200 and that body.
func Body(tb testing.TB, body string) string {
	tb.Helper()
	return Saying(tb, fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", Head, len(body), body))
}

// Status returns the address of a server that answers with that status, and where it redirects.
func Status(tb testing.TB, status int) string {
	tb.Helper()
	return Saying(tb, fmt.Sprintf("HTTP/1.1 %d %s\r\nLocation: /%s\r\nContent-Length: %d\r\n\r\n%s", status, Secret, Secret, len(Secret), Secret))
}

// Refusing returns an address that refuses connections. Nobody else gets its port while the test runs.
func Refusing(tb testing.TB) string {
	tb.Helper()
	_, address := bound(tb)
	return "http://" + address
}

// bound returns a socket that has a port and does not listen.
func bound(tb testing.TB) (socket int, address string) {
	tb.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		tb.Fatal(err)
	}
	return socket, fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
}

// Resetting resets the connection without an answer.
func Resetting(tb testing.TB) string {
	tb.Helper()
	return Answering(tb, func(conn net.Conn, _ <-chan struct{}) { _ = conn.(*net.TCPConn).SetLinger(0) })
}

// Closing closes the connection without an answer.
func Closing(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, "")
}

// Hanging takes the request and never answers.
func Hanging(tb testing.TB) string {
	tb.Helper()
	return Answering(tb, func(_ net.Conn, release <-chan struct{}) { <-release })
}

// HangingTLS takes the connection and does not shake hands.
func HangingTLS(tb testing.TB) string {
	tb.Helper()
	return "https://" + serve(tb, func(_ net.Conn, release <-chan struct{}) { <-release })
}

// HangingHalfWay answers headers and a part of the body, and no more.
func HangingHalfWay(tb testing.TB) string {
	tb.Helper()
	return Answering(tb, func(conn net.Conn, release <-chan struct{}) {
		_, _ = conn.Write([]byte(Head + "Content-Length: 100\r\n\r\n" + Secret))
		<-release
	})
}

// Dripping answers without end, a byte at a time.
func Dripping(tb testing.TB) string {
	tb.Helper()
	return Answering(tb, func(conn net.Conn, release <-chan struct{}) {
		_, _ = conn.Write([]byte(Head + "Content-Length: 1000000\r\n\r\n"))
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-release:
				return
			case <-tick.C:
				if _, err := conn.Write([]byte(" ")); err != nil {
					return
				}
			}
		}
	})
}

// HTML answers a page, as a login page or a load balancer does.
func HTML(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, Head+"\r\n \n<!DOCTYPE html><html>"+Secret+"</html>")
}

// Text answers what is neither JSON nor HTML.
func Text(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, Head+"\r\n"+Secret)
}

// Empty answers an empty body.
func Empty(tb testing.TB) string {
	tb.Helper()
	return Body(tb, "")
}

// ShorterThanItSays closes before the end of the body that its headers promise.
func ShorterThanItSays(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, Head+"Content-Length: 100\r\n\r\n"+Secret)
}

// LackingTheLastChunk closes before the chunk that ends the body.
func LackingTheLastChunk(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, Head+"Transfer-Encoding: chunked\r\n\r\n6\r\n"+Secret+"\r\n")
}

// HalfAJSON answers the beginning of a JSON text as if it were all.
func HalfAJSON(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, Head+"\r\n{\"note\": \""+Secret)
}

// TooLarge answers a string of 9 MiB.
func TooLarge(tb testing.TB) string {
	tb.Helper()
	return Body(tb, `"`+strings.Repeat("x", 9<<20)+`"`)
}

// TooManyValues answers a list of 600,000 numbers.
func TooManyValues(tb testing.TB) string {
	tb.Helper()
	return Body(tb, "["+strings.Repeat("0,", 600_000)+"0]")
}

// HugeHeaders answers a header of 80 KiB.
func HugeHeaders(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, Head+"X-Long: "+strings.Repeat("x", 80<<10)+"\r\n\r\n{}")
}

// GzipBomb answers 64 KiB that nobody asked to be compressed, and that are 64 MiB once they are not.
func GzipBomb(tb testing.TB) string {
	tb.Helper()
	var bomb bytes.Buffer
	bomb.WriteString(Head + "Content-Encoding: gzip\r\n\r\n")
	packer := gzip.NewWriter(&bomb)
	zeros := make([]byte, 1<<20)
	for range 64 {
		if _, err := packer.Write(zeros); err != nil {
			tb.Fatal(err)
		}
	}
	if err := packer.Close(); err != nil {
		tb.Fatal(err)
	}
	return Saying(tb, bomb.String())
}

// NotHTTP speaks another protocol.
func NotHTTP(tb testing.TB) string {
	tb.Helper()
	return Saying(tb, "SSH-2.0-"+Secret+"\r\n")
}

// LongerThanItSays answers that body, and more bytes after the end that its headers promise, and waits for the next request.
func LongerThanItSays(tb testing.TB, body string) string {
	tb.Helper()
	return Answering(tb, func(conn net.Conn, release <-chan struct{}) {
		_, _ = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s%s", Head, len(body), body, Secret)
		<-release
	})
}

// Dropping returns an address that does not take connections and does not refuse them either, as behind a firewall that
// drops what is sent to it.
func Dropping(tb testing.TB) string {
	tb.Helper()
	socket, address := bound(tb)
	// Once as many wait as may, the kernel drops what else comes.
	if err := syscall.Listen(socket, 0); err != nil {
		tb.Fatal(err)
	}
	for {
		conn, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return "http://" + address
		}
		tb.Cleanup(func() { _ = conn.Close() })
	}
}
