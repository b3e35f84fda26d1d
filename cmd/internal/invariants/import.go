package invariants

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/spf13/cobra"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/invariants/alerting"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/cmd/internal/terminal"
)

// What the API server takes.
const (
	maxSystem        = 40
	maxPrometheusURL = 2048
)

type importOptions struct {
	cli.Common
	files         []string
	prometheusURL string
	system        string
	severityLabel string
	severities    map[string]string
	// written is how many Invariants were printed, and refused how much of the files nothing was made of.
	written, refused, notes int
}

func newImportCommand(c cli.Common) *cobra.Command {
	o := &importOptions{Common: c}
	cmd := &cobra.Command{
		Use:   "import -f FILE...",
		Short: "Make invariants of Prometheus alerting rules",
		Long: `Make invariants of Prometheus alerting rules, and print their manifests for kubectl apply. Nothing is sent to the cluster.

A file has the rules as Prometheus loads them, or PrometheusRule objects. Each alerting rule becomes one Invariant:

  expr                   spec.source.prometheus.query; each series that it returns is a violation
  for                    spec.gracePeriod
  keep_firing_for        spec.resolveAfter
  the group's interval   spec.interval
  the label severity     spec.severity: critical, emergency, page and error are Critical, warning, warn and ticket are
                         Warning, info, none and notice are Info, in any case of letters; all else is Warning
  other labels           spec.labels
  summary                spec.description
  description            spec.message, with $labels, $value and their usual formats translated to CEL
  runbook_url            spec.runbookURL

What an Invariant cannot say is listed on standard error, as FILE:LINE: note: ALERT: what is lost, and what to do about it.
Recording rules stay with Prometheus.

Exit codes: 0 every alerting rule became an Invariant, 1 some did not: they are listed as FILE:LINE: error:, and the rest is
printed.`,
		Example: `  # See what becomes of the rules, and what does not
  PROGRAM invariants import -f rules.yml

  # Apply them, with rules that have the severity in the label level, as those of TiKV do
  PROGRAM invariants import -f tikv.rules.yml --severity-label level --system tikv-prod | kubectl apply -f -

  # The rules of the Prometheus operator
  kubectl get prometheusrules -n monitoring -o yaml | PROGRAM invariants import -f - -n monitoring

  # Severities of your own
  PROGRAM invariants import -f rules.yml --map-severity p1=Critical,p2=Warning`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.UsageError(cmd, fmt.Sprintf("%s: give each file with a --filename of its own", args[0]))
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringSliceVarP(&o.files, "filename", "f", nil, "The file with the rules; - for standard input. May be given several times.")
	f.StringVar(&o.prometheusURL, "prometheus-url", "", "The address of the Prometheus that the queries are asked of. Left out: the monitor's own --prometheus-url.")
	f.StringVar(&o.system, "system", "", "The system that the invariants are about. Left out: the namespace's name.")
	f.StringVar(&o.severityLabel, "severity-label", alerting.DefaultSeverityLabel, "The label that has the severity.")
	f.StringToStringVar(&o.severities, "map-severity", nil, "What a value of the severity label means, such as p1=Critical. May be given several times.")
	f.Lookup("map-severity").DefValue = ""
	return cmd
}

func (o *importOptions) run(cmd *cobra.Command) error {
	if len(o.files) == 0 {
		return cli.UsageError(cmd, "which rules? Give the file with --filename")
	}
	options, err := o.options()
	if err != nil {
		return err
	}
	importer := alerting.NewImporter(options)
	var errs []error
	for _, file := range o.files {
		result, err := o.importFile(importer, file)
		if err != nil {
			errs = append(errs, err)
		}
		if err := o.print(file, result); err != nil {
			return err
		}
	}
	if o.notes > 0 || o.refused > 0 {
		_, _ = fmt.Fprintln(o.ErrOut, o.summary())
	}
	if len(errs) == 0 && o.refused > 0 {
		return program.WithExitCode(1, nil)
	}
	return utilerrors.NewAggregate(errs)
}

// options checks what was typed.
func (o *importOptions) options() (alerting.Options, error) {
	options := alerting.Options{PrometheusURL: o.prometheusURL, System: o.system, SeverityLabel: o.severityLabel,
		Severities: map[string]v1alpha1.Severity{}}
	if err := checkPrometheusURL(o.prometheusURL); err != nil {
		return options, fmt.Errorf("--prometheus-url: %w", err)
	}
	if o.system != "" && (len(validation.IsDNS1123Label(o.system)) > 0 || len(o.system) > maxSystem) {
		return options, fmt.Errorf("--system is %q: it must have at most %d lower-case letters, digits and '-', such as tikv-prod", o.system, maxSystem)
	}
	if options.Namespace = *o.Flags.Namespace; options.Namespace != "" && len(validation.IsDNS1123Label(options.Namespace)) > 0 {
		return options, fmt.Errorf("--namespace is %q: it must have lower-case letters, digits and '-', such as tikv-prod", options.Namespace)
	}
	for value, name := range o.severities {
		severity, err := severityOf(name)
		if err != nil {
			return options, fmt.Errorf("--map-severity %s=%s: %w", value, name, err)
		}
		options.Severities[strings.ToLower(value)] = severity
	}
	return options, nil
}

func severityOf(name string) (v1alpha1.Severity, error) {
	for _, severity := range []v1alpha1.Severity{v1alpha1.Critical, v1alpha1.Warning, v1alpha1.Info} {
		if strings.EqualFold(name, string(severity)) {
			return severity, nil
		}
	}
	return "", fmt.Errorf("%q is no severity: use one of %s, %s, %s", name, v1alpha1.Critical, v1alpha1.Warning, v1alpha1.Info)
}

// checkPrometheusURL refuses what the API server would refuse in spec.source.prometheus.url.
func checkPrometheusURL(address string) error {
	if address == "" {
		return nil
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "":
		return fmt.Errorf("%q must be like http://prometheus:9090", address)
	case u.User != nil:
		return errors.New("it must hold no user and no password: whoever may read Invariants would read them. Set spec.source.prometheus.secretRef")
	case strings.ContainsAny(address, "?#"):
		return fmt.Errorf("%q must have no query: it is the address of the API, to which /api/v1/query is added", address)
	case len(address) > maxPrometheusURL:
		return fmt.Errorf("it has more than %d characters", maxPrometheusURL)
	}
	return nil
}

// importFile imports a file. With an error it returns what there is all the same.
func (o *importOptions) importFile(importer *alerting.Importer, file string) (alerting.Result, error) {
	content, err := o.read(file)
	if err != nil {
		return alerting.Result{}, err
	}
	result, err := importer.Import(content)
	if err != nil {
		return result, fmt.Errorf("read the rules of %s: %w", shownFile(file), err)
	}
	return result, nil
}

func (o *importOptions) read(file string) ([]byte, error) {
	in := o.In
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return nil, fmt.Errorf("read the rules: %w", err)
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	content, err := io.ReadAll(io.LimitReader(in, maxManifest+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the rules of %s: %w", shownFile(file), err)
	case len(content) > maxManifest:
		return nil, fmt.Errorf("read the rules of %s: it has more than %d MiB: split it", shownFile(file), maxManifest>>20)
	}
	return content, nil
}

// print prints manifests on standard output and notes on standard error.
func (o *importOptions) print(file string, result alerting.Result) error {
	for _, i := range result.Invariants {
		manifest, err := i.Manifest()
		if err != nil {
			return err
		}
		separator := "---\n"
		if o.written == 0 {
			separator = ""
		}
		origin := terminal.Line(fmt.Sprintf("# %s, %s:%d", i.Alert, shownFile(file), i.Line))
		if _, err := fmt.Fprintf(o.Out, "%s%s\n%s", separator, origin, manifest); err != nil {
			return fmt.Errorf("print the Invariant %s: %w", i.Name, err)
		}
		o.written++
	}
	for _, n := range result.Notes {
		kind := "note"
		if n.Refused {
			kind = "error"
		}
		_, _ = fmt.Fprintln(o.ErrOut, terminal.Line(fmt.Sprintf("%s:%d: %s: %s: %s", shownFile(file), n.Line, kind, n.Subject, n.Text)))
	}
	o.refused += result.Refused()
	o.notes += len(result.Notes) - result.Refused()
	return nil
}

func (o *importOptions) summary() string {
	text := fmt.Sprintf("%s made, %s", count(o.written, "Invariant"), count(o.notes, "note"))
	if o.refused > 0 {
		text += ", " + count(o.refused, "error")
	}
	return text
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
