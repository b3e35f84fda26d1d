package observe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"invariant.dev/operator/controllers/verdict"
)

// lyingDNS is a resolver that asks a server which answers every name with one address after the other, for no time at all.
func lyingDNS(t *testing.T, answers ...[4]byte) *net.Resolver {
	t.Helper()
	var config net.ListenConfig
	conn, err := config.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	var asked atomic.Int32
	go func() {
		for buffer := make([]byte, 4096); ; {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			var message dnsmessage.Message
			if message.Unpack(buffer[:n]) != nil || len(message.Questions) != 1 {
				continue
			}
			question := message.Questions[0]
			message.Response, message.RecursionAvailable, message.Additionals = true, true, nil
			if question.Type == dnsmessage.TypeA {
				i := min(int(asked.Add(1)), len(answers)) - 1
				message.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: question.Name, Class: question.Class},
					Body: &dnsmessage.AResource{A: answers[i]}}}
			}
			if packed, err := message.Pack(); err == nil {
				_, _ = conn.WriteTo(packed, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func TestRule11ANameThatComesToMeanAnotherAddressIsRefusedThere(t *testing.T) {
	t.Parallel()
	// Closed after each answer, so that each look dials.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		answerJSON(w, r)
	}))
	t.Cleanup(server.Close)
	target, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	o := NewObserver(AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	o.resolver = lyingDNS(t, [4]byte{127, 0, 0, 1}, [4]byte{169, 254, 169, 254}, [4]byte{127, 0, 0, 2})
	spec := urlSpec("http://store.example.:"+target.Port()+"/", plenty)
	if seen := observe(t.Context(), o, spec); seen.Fault != nil {
		t.Fatalf("where it may be read: %v", seen.Fault)
	}
	for _, refused := range []string{"169.254.169.254", "127.0.0.2"} {
		seen := observe(t.Context(), o, spec)
		if seen.Fault == nil || seen.Fault.Reason != verdict.Forbidden || !strings.Contains(seen.Fault.Message, refused+":"+target.Port()+" is loopback") {
			t.Errorf("once it means %s: %v", refused, seen.Fault)
		}
	}
}

func TestRule11TheMetadataServiceIsRefusedUnderAllItsNames(t *testing.T) {
	t.Parallel()
	o := NewObserver(AddressPolicy{})
	o.resolver = lyingDNS(t, [4]byte{169, 254, 169, 254})
	for _, host := range []string{"169.254.169.254", "[::ffff:169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::]", "metadata.example."} {
		seen := observe(t.Context(), o, urlSpec("http://"+host+"/latest/meta-data/", plenty))
		if seen.Fault == nil || seen.Fault.Reason != verdict.Forbidden {
			t.Errorf("%s: %v", host, seen.Fault)
		}
	}
}

func TestRule11TheAPIServerIsRefusedAtItsPortAndNoOther(t *testing.T) {
	t.Parallel()
	address, requests := recording(t, answerJSON)
	server := netip.MustParseAddrPort(strings.TrimPrefix(address, "http://"))
	o := NewObserver(AddressPolicy{Refuse: []netip.AddrPort{server}})
	if o.Policy.Admits(server) {
		t.Error("the API server may be dialled")
	}
	if seen := observe(t.Context(), o, urlSpec(address, plenty)); seen.Fault == nil || seen.Fault.Reason != verdict.Forbidden || len(requests()) != 0 {
		t.Errorf("%v after %d requests", seen.Fault, len(requests()))
	}
	plain := AddressPolicy{Refuse: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:443")}}
	if plain.Admits(netip.MustParseAddrPort("10.96.0.1:443")) || plain.Admits(netip.MustParseAddrPort("[::ffff:10.96.0.1]:443")) {
		t.Error("the API server may be dialled")
	}
	if !plain.Admits(netip.MustParseAddrPort("10.96.0.1:2379")) {
		t.Error("another port of its address may not")
	}
}
