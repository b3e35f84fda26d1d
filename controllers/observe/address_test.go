package observe

import (
	"net"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"invariant.dev/operator/controllers/verdict"
)

func TestWhichAddressesMayBeDialled(t *testing.T) {
	t.Parallel()
	policy := AddressPolicy{Refuse: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:443"), netip.MustParseAddrPort("[fd00::1]:443")}}
	for address, admitted := range map[string]bool{
		"127.0.0.1:80":                false,
		"127.255.255.254:80":          false,
		"[::1]:80":                    false,
		"[::ffff:127.0.0.1]:80":       false,
		"[::127.0.0.1]:80":            false, // IPv4-compatible
		"[64:ff9b::127.0.0.1]:80":     false, // NAT64
		"[64:ff9b::a9fe:a9fe]:80":     false,
		"[64:ff9b:1::a9fe:a9fe]:80":   false,
		"[2002:7f00:1::]:80":          false, // 6to4
		"[2002:a9fe:a9fe::]:80":       false,
		"[::a9fe:a9fe]:80":            false,
		"169.254.169.254:80":          false, // metadata of AWS, GCP, Azure
		"[::ffff:169.254.169.254]:80": false,
		"169.254.170.2:80":            false, // metadata of ECS
		"[fd00:ec2::254]:80":          false,
		"[fd00:ec2::23]:80":           false, // EKS Pod Identity
		"[fd20:ce::254]:80":           false, // Google Cloud
		"[fd00:42::42]:80":            false, // Scaleway
		"[fd00:c1::a9fe:a9fe]:80":     false, // Oracle Cloud
		"100.100.100.200:80":          false,
		"168.63.129.16:80":            false,
		"192.0.0.192:80":              false,
		"[fe80::1]:80":                false,
		"[fe80::1%eth0]:80":           false,
		"[::]:80":                     false,
		"0.0.0.0:80":                  false,
		"0.1.2.3:80":                  false,
		"224.0.0.1:80":                false,
		"[ff02::1]:80":                false,
		"[ff05::2]:80":                false,
		"10.96.0.1:443":               false, // the API server
		"[::ffff:10.96.0.1]:443":      false,
		"[64:ff9b::10.96.0.1]:443":    false,
		"[fd00::1]:443":               false,
		"10.96.0.1:2379":              true,
		"[fd00::1]:2379":              true,
		"10.0.0.1:2379":               true,
		"172.16.0.1:2379":             true,
		"192.168.1.1:2379":            true,
		"100.64.0.1:2379":             true,
		"8.8.8.8:443":                 true,
		"[2001:db8::1]:443":           true,
		"[fd12::1]:2379":              true,
		"[64:ff9b::8.8.8.8]:443":      true,
		"[2002:808:808::1]:443":       true,
	} {
		if got := policy.Admits(netip.MustParseAddrPort(address)); got != admitted {
			t.Errorf("%s: admitted %v, want %v", address, got, admitted)
		}
	}
}

func TestAnAdminMayAdmitWhatIsRefused(t *testing.T) {
	t.Parallel()
	policy := AddressPolicy{
		Allow:  []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("10.96.0.0/16")},
		Refuse: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.1:443")},
	}
	for address, admitted := range map[string]bool{
		"127.0.0.1:80":          true,
		"[::ffff:127.0.0.1]:80": true,
		"[::1]:80":              true,
		"10.96.0.1:443":         true,
		"127.0.0.2:80":          false,
		"169.254.169.254:80":    false,
	} {
		if got := policy.Admits(netip.MustParseAddrPort(address)); got != admitted {
			t.Errorf("%s: admitted %v, want %v", address, got, admitted)
		}
	}
}

func TestWhatIsNotAnAddressIsNotDialled(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "localhost:80", "127.0.0.1", "127.1:80", "[::1]"} {
		if (AddressPolicy{}).control(t.Context(), "tcp", address, nil) == nil {
			t.Errorf("%q may be dialled", address)
		}
	}
}

func TestANameIsJudgedByWhatItResolvesTo(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(nil)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0"} {
		address := "http://" + host + ":" + port + "/"
		o := observe(t.Context(), NewObserver(AddressPolicy{}), urlSpec(address, plenty))
		switch {
		case o.Fault == nil || o.Fault.Reason != verdict.Forbidden:
			t.Errorf("%s: %v; want it refused", host, o.Fault)
		case !strings.HasPrefix(o.Fault.Message, "GET "+address+": ") || !strings.HasSuffix(o.Fault.Message, "an admin can admit it with the monitor's --allow-address"):
			t.Errorf("%s: the message is %q", host, o.Fault.Message)
		}
	}
}

func TestARedirectToARefusedAddressIsNotFollowed(t *testing.T) {
	t.Parallel()
	target, requests := recording(t, answerJSON)
	address := saying(t, "HTTP/1.1 302 Found\r\nLocation: "+target+"\r\n\r\n")
	if o := observe(t.Context(), NewObserver(loopback), urlSpec(address, plenty)); o.Fault == nil || len(requests()) != 0 {
		t.Errorf("%v after %d requests to the target", o.Fault, len(requests()))
	}
}
