package invariants

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/terminal"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

// The formats of -o.
const (
	formatWide = "wide"
	formatJSON = "json"
	formatYAML = "yaml"
)

// listedSatisfied is how many satisfied stores are listed without -o wide.
const listedSatisfied = 10

func printerOf(format string) (func(io.Writer, report) error, error) {
	switch format {
	case "", formatWide:
		return func(w io.Writer, r report) error { return printPages(w, r, format == formatWide) }, nil
	case formatJSON:
		return func(w io.Writer, r report) error {
			encoder := json.NewEncoder(w)
			encoder.SetIndent("", "    ")
			return encoder.Encode(r)
		}, nil
	case formatYAML:
		return func(w io.Writer, r report) error {
			text, err := yaml.Marshal(r)
			if err != nil {
				return fmt.Errorf("write the report as YAML: %w", err)
			}
			_, err = w.Write(text)
			return err
		}, nil
	}
	return nil, fmt.Errorf("--output is %q: use one of wide, json, yaml", format)
}

func printPages(w io.Writer, r report, wide bool) error {
	for n, i := range r.Items {
		if n > 0 {
			_, _ = fmt.Fprintln(w)
		}
		if err := printPage(w, i, r.CheckedTime.Go(), wide); err != nil {
			return err
		}
	}
	return nil
}

func printPage(w io.Writer, i item, now time.Time, wide bool) error {
	head := printers.GetNewTabWriter(w)
	for _, f := range [][2]string{
		{"Invariant", i.Namespace + "/" + i.Name},
		{"System", i.System},
		{"Severity", string(i.Severity)},
		{"Source", strings.Join(shownSources(&i.invariant.Spec), ", ")},
		{"Verdict", i.verdict()},
		{"Next", i.next(now)},
	} {
		_, _ = fmt.Fprintf(head, "%s:\t%s\n", f[0], terminal.Cell(f[1], "\t| "))
	}
	if err := head.Flush(); err != nil {
		return err
	}
	if len(i.Stores) == 0 {
		return nil
	}
	_, _ = fmt.Fprintln(w)
	table := printers.GetNewTabWriter(w)
	_, _ = fmt.Fprintln(table, "STORE\tVERDICT\tMESSAGE")
	left := 0
	for n, s := range i.Stores {
		if s.Truth == verdict.Satisfied.String() && !wide && n >= listedSatisfied {
			left++
			continue
		}
		message := s.Message
		if s.Reason != "" {
			message = s.Reason + ": " + message
		}
		_, _ = fmt.Fprintln(table, strings.TrimRight(fmt.Sprintf("%s\t%s\t%s", terminal.Line(nameOf(s)), s.Truth, terminal.Cell(message, "\t\t| ")), "\t"))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if left > 0 {
		_, _ = fmt.Fprintf(w, "and %d more that are satisfied: -o wide lists them\n", left)
	}
	return printSnapshots(w, i)
}

func nameOf(s store) string {
	if s.StoreID == "" {
		return "(the whole)"
	}
	return s.StoreID
}

func printSnapshots(w io.Writer, i item) error {
	for _, s := range i.Stores {
		if len(s.Snapshot) == 0 {
			continue
		}
		_, _ = fmt.Fprintf(w, "\nSnapshot of %s:\n", terminal.Line(nameOf(s)))
		table := printers.GetNewTabWriter(w)
		for _, v := range s.Snapshot {
			value := v.Value
			switch {
			case v.Error != "":
				value = "error: " + v.Error
			case v.Truncated:
				value += " (cut at 1024 bytes)"
			}
			_, _ = fmt.Fprintf(table, "  %s:\t%s\n", terminal.Line(v.Name), terminal.Cell(value, "  \t| "))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

func (i item) verdict() string {
	if i.Reason != "" && len(i.Stores) == 0 {
		return fmt.Sprintf("%s, %s: %s", i.Truth, i.Reason, i.Message)
	}
	if len(i.Stores) == 1 && i.Stores[0].StoreID == "" {
		return i.Truth
	}
	return fmt.Sprintf("%s: of %d stores, %d violated, %d unknown, %d satisfied", i.Truth, len(i.Stores),
		i.count(verdict.Violated), i.count(verdict.Unknown), i.count(verdict.Satisfied))
}

// addresses are what a spec's source reads.
func addresses(spec *v1alpha1.InvariantSpec) []string {
	if prometheus := spec.Source.Prometheus; prometheus != nil && prometheus.URL != "" {
		return []string{prometheus.URL}
	}
	source := spec.Source.HTTP
	if source == nil {
		return nil
	}
	list := []string{}
	if source.URL != "" {
		list = append(list, source.URL)
	}
	for _, endpoint := range source.Endpoints {
		list = append(list, endpoint.URL)
	}
	return list
}

// secretsOf are the Secrets that a spec's source names.
func secretsOf(spec *v1alpha1.InvariantSpec) []string {
	var access v1alpha1.Access
	switch {
	case spec.Source.HTTP != nil:
		access = spec.Source.HTTP.Access
	case spec.Source.Prometheus != nil:
		access = spec.Source.Prometheus.Access
	}
	var names []string
	for _, ref := range []*v1alpha1.SecretReference{access.SecretRef, access.CertSecretRef} {
		if ref != nil && !slices.Contains(names, ref.Name) {
			names = append(names, ref.Name)
		}
	}
	return names
}

// shownSources say what a source reads; of many addresses, the first.
func shownSources(spec *v1alpha1.InvariantSpec) []string {
	switch source := spec.Source; {
	case source.Kubernetes != nil:
		return []string{source.Kubernetes.Kind + " of " + source.Kubernetes.APIVersion}
	case source.Prometheus != nil:
		return []string{cmp.Or(source.Prometheus.URL, "the monitor's --prometheus-url"), source.Prometheus.Query}
	}
	list := addresses(spec)
	if more := len(list) - 3; more > 0 {
		list = append(list[:3:3], fmt.Sprintf("%d more", more))
	}
	return list
}

// warn says where the monitor would see something else than this machine.
func (o *checkOptions) warn(c *cli.Cluster, r report) {
	for _, i := range r.Items {
		if source := i.invariant.Spec.Source.Kubernetes; source != nil && slices.ContainsFunc(source.Namespaces, func(n string) bool { return n != i.Namespace }) {
			c.Warn(fmt.Sprintf("the monitor refuses to look outside the namespace, unless an admin of the cluster has said: kubectl label namespace %s %s=%s",
				i.Namespace, observe.ObservesLabel, observe.ObservesCluster))
		}
		for _, name := range secretsOf(&i.invariant.Spec) {
			c.Warn(fmt.Sprintf("Secret %s was read with your rights: the monitor must be allowed to read it too; where it is not, its condition Ready has the commands", name))
		}
		for _, address := range addresses(&i.invariant.Spec) {
			if refused := refusedByMonitor(address); refused != "" {
				c.Warn(fmt.Sprintf("the monitor refuses %s, unless it runs with --allow-address %s", address, refused))
				break
			}
			if isOfCluster(address) && (i.Reason == string(verdict.Unreachable) || i.Reason == string(verdict.Timeout)) {
				c.Warn(address + " looks like an address of the cluster: check it in the monitor's pod, with " +
					"kubectl exec -i -n operator-system deploy/operator-monitor -- /operator invariants check -f - < FILE")
				break
			}
		}
	}
}

// lookupTime is how long it may take to find out what address a name has.
const lookupTime = time.Second

// refusedByMonitor is the address behind a URL if a monitor without --allow-address refuses to read it.
func refusedByMonitor(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	port, _ := strconv.ParseUint(u.Port(), 10, 16)
	ctx, cancel := context.WithTimeout(context.Background(), lookupTime)
	defer cancel()
	resolved, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	for _, ip := range resolved {
		if !(observe.AddressPolicy{}).Admits(netip.AddrPortFrom(ip.Unmap(), uint16(port))) { //nolint:gosec // parsed as 16 bits
			return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()).String()
		}
	}
	return ""
}

// isOfCluster tells whether the host of a URL looks like a Service's name: name.namespace, or with svc behind.
func isOfCluster(address string) bool {
	u, err := url.Parse(address)
	if err != nil || net.ParseIP(u.Hostname()) != nil {
		return false
	}
	labels := strings.Split(u.Hostname(), ".")
	return len(labels) <= 2 || labels[2] == "svc"
}
