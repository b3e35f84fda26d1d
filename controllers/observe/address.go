package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// AddressPolicy says which addresses may be dialled. Loopback, link-local, multicast and unspecified addresses, the
// metadata services of clouds, and what Refuse names, are not, unless Allow admits them: whoever may write an Invariant
// could otherwise read through the monitor what only the monitor can reach.
type AddressPolicy struct {
	// Allow admits what would be refused.
	Allow []netip.Prefix
	// Refuse is what else to refuse: the API server.
	Refuse []netip.AddrPort
}

// Addresses of metadata services that no other rule covers.
var metadataServices = []netip.Addr{
	netip.MustParseAddr("fd00:ec2::254"),      // AWS, over IPv6
	netip.MustParseAddr("fd00:ec2::23"),       // AWS EKS Pod Identity, over IPv6
	netip.MustParseAddr("fd20:ce::254"),       // Google Cloud, over IPv6
	netip.MustParseAddr("fd00:42::42"),        // Scaleway, over IPv6
	netip.MustParseAddr("fd00:c1::a9fe:a9fe"), // Oracle Cloud, over IPv6
	netip.MustParseAddr("100.100.100.200"),    // Alibaba Cloud
	netip.MustParseAddr("168.63.129.16"),      // Azure's WireServer
	netip.MustParseAddr("192.0.0.192"),        // Oracle Cloud
}

// IPv6 prefixes that carry an IPv4 address, and where in the address it begins.
var carriers = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64, RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 for local use, RFC 8215, with a /96 inside it
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4, RFC 3056
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible, RFC 4291, deprecated
}

// addressRefused is the error of a dial that the policy refuses.
type addressRefused struct {
	address netip.AddrPort
}

func (e *addressRefused) Error() string {
	return fmt.Sprintf("%s is loopback, link-local, a metadata service or the API server, which Invariants may not read; "+
		"an admin can admit it with the monitor's --allow-address", e.address)
}

// control is asked about each address after DNS, right before the connection: a name cannot resolve to something else
// in between.
func (p AddressPolicy) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	dialled, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address %q that is dialled: %w", address, err)
	}
	if !p.Admits(dialled) {
		return &addressRefused{dialled}
	}
	return nil
}

// Admits tells whether the address may be dialled.
func (p AddressPolicy) Admits(dialled netip.AddrPort) bool {
	plain := carried(dialled.Addr().WithZone("").Unmap())
	allowed := slices.ContainsFunc(p.Allow, func(prefix netip.Prefix) bool { return prefix.Contains(plain) })
	return allowed || !p.refuses(plain, dialled.Port())
}

func (p AddressPolicy) refuses(a netip.Addr, port uint16) bool {
	return a.IsLoopback() || a.IsUnspecified() || a.IsMulticast() ||
		a.IsLinkLocalUnicast() || a == netip.IPv4Unspecified() || thisNetwork.Contains(a) ||
		slices.Contains(metadataServices, a) || slices.Contains(p.Refuse, netip.AddrPortFrom(a, port))
}

// thisNetwork reaches the host itself on Linux.
var thisNetwork = netip.MustParsePrefix("0.0.0.0/8")

// carried is the IPv4 address inside an IPv6 one that carries it, or the address itself.
func carried(a netip.Addr) netip.Addr {
	if a.Is4() || a == netip.IPv6Unspecified() || a == netip.IPv6LinkLocalAllNodes() || a.IsLoopback() {
		return a
	}
	for _, c := range carriers {
		if c.prefix.Contains(a) {
			bytes := a.As16()
			return netip.AddrFrom4([4]byte(bytes[c.offset : c.offset+4]))
		}
	}
	return a
}
