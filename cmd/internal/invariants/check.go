package invariants

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net/netip"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/program"
	"invariant.dev/operator/controllers/judge"
	"invariant.dev/operator/controllers/observe"
	"invariant.dev/operator/controllers/verdict"
)

// Exit codes of check, worst last.
const (
	exitSatisfied = iota
	exitViolated
	exitUnknown
)

const (
	// checkTime is how long judging one invariant may take, as in the monitor.
	checkTime = 2 * time.Second
	// evidence is for how many violations a snapshot is taken, as in the monitor.
	evidence = 20
)

type checkOptions struct {
	cli.Common
	targets
	file          string
	output        string
	prometheusURL string
	// sendCredentials: what the Secrets hold that an applied Invariant names goes to the addresses that it names.
	sendCredentials bool
}

func newCheckCommand(c cli.Common) *cobra.Command {
	o := &checkOptions{Common: c, targets: newTargets()}
	cmd := &cobra.Command{
		Use:   "check (NAME... | -f FILE)",
		Short: "Check invariants once, right now, from here, and change nothing",
		Long: `Check invariants once, right now, from where you sit, and print the verdict on each store, with the message and the
snapshot that a ticket would carry. Nothing is changed: try an invariant with it before you apply it.

A file is validated by the API server first, as kubectl apply --dry-run=server does; where that cannot be asked, check says
so and goes on. Sources are read from this machine, Kubernetes objects and the Secrets that a file names with your own rights;
the Secrets that an applied invariant names only with --send-credentials. One whose address only the cluster can reach is checked in the monitor's
pod:

  kubectl exec -i -n operator-system deploy/operator-monitor -- /operator invariants check -f - < FILE

or applied muted, with the annotation operator/mute-until: then its conditions say what is seen, and no ticket opens.

Exit codes: 0 all satisfied, 1 something is violated, 2 it could not be told, or the check could not be made.

With -o json or yaml: {checkedTime, items: [{namespace, name, system, severity, truth, reason, message, stores: [{storeID,
truth, reason, message, snapshot}]}]}; truth is Satisfied, Violated or Unknown, and reason and message say why it is Unknown.`,
		Example: `  # Before you apply it
  PROGRAM invariants check -f store-down.yaml

  # One that is applied, right now
  PROGRAM invariants check store-down`,
		ValidArgsFunction: completeNames(c),
		RunE: func(cmd *cobra.Command, args []string) error {
			code, err := o.run(cmd, args)
			if err != nil {
				return program.WithExitCode(exitUnknown, err)
			}
			if code != exitSatisfied {
				return program.WithExitCode(code, nil)
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return program.WithExitCode(exitUnknown, cli.UsageError(cmd, err.Error()))
	})
	f := cmd.Flags()
	f.StringVarP(&o.file, "filename", "f", "", "The file with the manifests; - for standard input.")
	f.StringVarP(&o.output, "output", "o", "", "Output format. One of: (wide, json, yaml). wide also lists every satisfied store.")
	f.BoolVar(&o.sendCredentials, "send-credentials", false, "Read the Secrets that applied invariants name with your own rights, and send what they hold to the addresses that whoever wrote the invariants has chosen. Those of a file are read without it.")
	f.StringVar(&o.prometheusURL, "prometheus-url", "", "The Prometheus to ask where an invariant names none, as the monitor's flag of that name.")
	cli.CompleteFlag(cmd, "output", formatWide, formatJSON, formatYAML)
	return cmd
}

func (o *checkOptions) run(cmd *cobra.Command, args []string) (code int, err error) {
	switch {
	case o.file != "" && len(args) > 0:
		return 0, cli.UsageError(cmd, "names and --filename cannot be used together")
	case o.file == "" && len(args) == 0:
		return 0, cli.UsageError(cmd, "which invariants? Give names of those that are applied, or --filename")
	}
	printReport, err := printerOf(o.output)
	if err != nil {
		return 0, err
	}
	if o.file == "" {
		if err := o.Complete(cmd, args); err != nil {
			return 0, err
		}
	}
	stdlog.SetOutput(observe.QuietLog(o.ErrOut))
	err = o.Run(cmd, false, func(ctx context.Context, c *cli.Cluster) error {
		invariants, gatherErr := o.gather(ctx, c)
		r := report{CheckedTime: v1alpha1.NewTime(time.Now())}
		for _, invariant := range invariants {
			r.Items = append(r.Items, o.check(ctx, c, invariant, time.Now()))
		}
		code = r.exitCode()
		o.warn(c, r)
		return errors.Join(printReport(o.Out, r), gatherErr)
	})
	return code, err
}

// gather returns what is to be checked: the Invariants of the file, or those named. With an error it returns those that there are.
func (o *checkOptions) gather(ctx context.Context, c *cli.Cluster) ([]*v1alpha1.Invariant, error) {
	var invariants []*v1alpha1.Invariant
	if o.file == "" {
		err := o.Each(ctx, c, func(sent *unstructured.Unstructured) error {
			invariant, err := cli.Invariants.Decode(sent)
			if err == nil {
				invariants = append(invariants, invariant)
			}
			return err
		})
		return invariants, err
	}
	manifests, skipped, err := readManifests(o.file, o.In)
	if err != nil {
		return nil, err
	}
	for _, other := range skipped {
		c.Warn(other + " is not an Invariant, and is skipped")
	}
	for _, manifest := range manifests {
		invariant, err := o.validate(ctx, c, manifest)
		if err != nil {
			return invariants, err
		}
		invariants = append(invariants, invariant)
	}
	return invariants, nil
}

// validate reads a manifest as the API server would take it or, where that cannot be asked, as Go reads it.
func (o *checkOptions) validate(ctx context.Context, c *cli.Cluster, manifest *unstructured.Unstructured) (*v1alpha1.Invariant, error) {
	if manifest.GetNamespace() == "" {
		manifest.SetNamespace(c.Namespace())
	}
	invariant, unasked, err := cli.Invariants.Validate(ctx, c, manifest)
	if !unasked {
		return invariant, err
	}
	c.Warn(fmt.Sprintf("the API server was not asked whether it takes %s: %v", manifest.GetName(), err))
	return decodeStrictly(manifest)
}

// anywhere admits all addresses: what somebody checks, they could read themselves.
var anywhere = observe.AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}

// check reads an invariant's source and judges it, as the monitor does.
func (o *checkOptions) check(ctx context.Context, c *cli.Cluster, invariant *v1alpha1.Invariant, now time.Time) item {
	compiled, err := judge.Compile(&invariant.Spec)
	if err != nil {
		var fault *verdict.Fault
		if !errors.As(err, &fault) {
			fault = &verdict.Fault{Reason: verdict.InvalidExpression, Message: err.Error()}
		}
		return newItem(ctx, invariant, nil, judge.Result{Judgement: verdict.Judgement{Fault: fault}}, now, nil)
	}
	system := types.NamespacedName{Namespace: invariant.Namespace, Name: invariant.SystemName()}
	observer, objects := o.observer(ctx, c)
	defer objects.Keep(system, nil)
	seen := observer.Look(ctx, system, []*v1alpha1.InvariantSpec{&invariant.Spec})
	defer seen.Release()
	ctx, cancel := context.WithTimeout(ctx, checkTime+evidenceTime)
	defer cancel()
	judging, stop := context.WithTimeout(ctx, checkTime)
	defer stop()
	ask := func(ctx context.Context, query string) (string, *verdict.Fault) {
		return observer.Ask(ctx, system, &invariant.Spec, query)
	}
	return newItem(ctx, invariant, compiled, compiled.Judge(judging, seen.Observation(&invariant.Spec), now), now, ask)
}

// observer reads sources as whoever types the command: Secrets and objects that they may read.
func (o *checkOptions) observer(ctx context.Context, c *cli.Cluster) (*observe.Observer, *observe.Objects) {
	objects := &observe.Objects{Client: c.Dynamic(), Kinds: c.Mapper(), Clock: clock.RealClock{}, Unconfined: true}
	observer := observe.NewObserver(anywhere)
	observer.PrometheusURL, observer.Objects = o.prometheusURL, objects
	// Who it is stands in the commands that an admin is told; a cluster that does not say so will not give a Secret either.
	observer.Identity, _ = c.User(ctx)
	if o.file == "" && !o.sendCredentials {
		observer.NoSecrets = "it is read with your rights and sent to an address that whoever wrote the invariant has chosen, so only with --send-credentials"
		return observer, objects
	}
	observer.Secrets = func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
		sent, err := c.Dynamic().Resource(corev1.SchemeGroupVersion.WithResource("secrets")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		secret := &corev1.Secret{}
		return secret, runtime.DefaultUnstructuredConverter.FromUnstructured(sent.Object, secret)
	}
	return observer, objects
}
