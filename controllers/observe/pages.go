package observe

import (
	"errors"
	"io"
	"net/http"
)

const (
	// firstPage is how many objects the first request of a list asks for, which may all be as large as objects can be. Where they are
	// small, further requests ask for more, up to maxPage.
	firstPage = 50
	maxPage   = 500
	// maxPages is how many answers a list may have. What has as many objects as a watch may hold comes in far fewer.
	maxPages = 200
	// maxPageBytes is how large the text of an answer may be. No object is larger.
	maxPageBytes = MaxBodyBytes
)

// errPageTooLarge is why the answer to a list was not read to its end.
var errPageTooLarge = errors.New("the answer to a list is too large")

// BoundedLists reads no more of an answer to a list than the monitor has memory for; then, fewer objects are asked for. Watches go on.
func BoundedLists(next http.RoundTripper) http.RoundTripper { return boundedLists{next} }

type boundedLists struct{ next http.RoundTripper }

// RoundTrip sends a request.
func (b boundedLists) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := b.next.RoundTrip(r)
	if err == nil && !r.URL.Query().Has("watch") {
		response.Body = &boundedBody{response.Body, maxPageBytes}
	}
	return response, err
}

// WrappedRoundTripper is what it wraps, for client-go.
func (b boundedLists) WrappedRoundTripper() http.RoundTripper { return b.next }

// boundedBody fails where it is longer than what is left.
type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read reads some of the body.
func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errPageTooLarge
	}
	return n, err
}
