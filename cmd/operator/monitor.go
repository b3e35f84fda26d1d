package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/metrics/filters"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/controllers"
	"invariant.dev/operator/controllers/observe"
)

// The lease is short, because nothing is checked while a dead leader's lease runs out.
const (
	leaseDuration = 10 * time.Second
	renewDeadline = 7 * time.Second
	retryPeriod   = 800 * time.Millisecond
)

const (
	leaseName = "operator-monitor.operator.invariant.dev"
	// stopTimeout leaves a second of the five in which the monitor stops.
	stopTimeout = 4 * time.Second
	// Bounds of what the monitor asks of the API server, in requests a second; the API server's own fairness does the rest.
	clientQPS   = 100
	clientBurst = 200
)

// monitorOptions are the flags of operator monitor.
type monitorOptions struct {
	kubeconfig, context string
	interval            time.Duration
	namespace           string
	allowAddresses      []string
	leaderElect         bool
	metricsAddress      string
	probeAddress        string
	workers             int
	ticketRetention     time.Duration
	prometheusURL       string

	// name is this process's, in the tickets that it writes and in the Lease: no other has it.
	name string
}

func newMonitorCommand() *cobra.Command {
	o := &monitorOptions{}
	cmd := &cobra.Command{
		Use:   "monitor",
		Short: "Check all Invariants every interval and keep their Tickets",
		Long: `Check all Invariants every interval and keep their Tickets. Runs until it is stopped.

Outside a cluster it uses the current context of your kubeconfig; inside, its ServiceAccount.`,
		Example: `  # Against the cluster of your kubeconfig, reading sources on this machine too
  operator monitor --allow-address 127.0.0.0/8

  # One namespace only, every 10 seconds
  operator monitor --namespace tikv-prod --interval 10s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path to the kubeconfig file; default: $KUBECONFIG, ~/.kube/config, or the ServiceAccount of the pod")
	f.StringVar(&o.context, "context", "", "the kubeconfig's context to use")
	f.DurationVar(&o.interval, "interval", controllers.DefaultInterval, "how often to check Invariants that do not say; from 1s to 24h. For more than 2m set spec.interval as well, or the plugin takes the monitor to be down")
	f.StringVarP(&o.namespace, "namespace", "n", "", "the only namespace to watch; default: all")
	f.StringArrayVar(&o.allowAddresses, "allow-address", nil, "addresses that Invariants may read although they are loopback, link-local, a metadata service or the API server, as a CIDR; may be repeated")
	f.StringVar(&o.prometheusURL, "prometheus-url", "", "the Prometheus-compatible API to ask where an Invariant names none, such as http://prometheus.monitoring:9090. Every author of Invariants may then query all that it has")
	f.BoolVar(&o.leaderElect, "leader-elect", false, "run only while no other monitor does; for a Deployment of more than one replica")
	f.StringVar(&o.metricsAddress, "metrics-bind-address", "0", "where to serve metrics, over https and for those who may read /metrics, such as :8443; 0: nowhere")
	f.StringVar(&o.probeAddress, "health-probe-bind-address", "0", "where to serve /healthz and /readyz, such as :8081; 0: nowhere")
	f.IntVar(&o.workers, "workers", controllers.DefaultWorkers, "how many systems are judged and recorded at the same time; reading sources needs none")
	f.DurationVar(&o.ticketRetention, "ticket-retention", controllers.DefaultTicketRetention, "how long to keep a ticket after it was resolved, at least 1h; 0: for ever. What is held, and a system's newest ticket, stay")
	return cmd
}

func (o *monitorOptions) run(ctx context.Context) error {
	log := logr.FromSlogHandler(slog.NewTextHandler(os.Stderr, nil))
	ctrl.SetLogger(log)
	klog.SetLogger(log)
	stdlog.SetOutput(observe.QuietLog(os.Stderr))
	allow, err := o.allowed()
	if err != nil {
		return err
	}
	if err := noticeDeadConnections(); err != nil {
		return fmt.Errorf("set how dead connections are noticed: %w", err)
	}
	config, own, err := o.config()
	if err != nil {
		return err
	}
	if err := checkCluster(ctx, config, o.namespace); err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("name this monitor: %w", err)
	}
	o.name = host + "_" + uuid.NewString()
	lost := make(chan error, 1)
	mgr, err := o.manager(config, own, lost)
	if err != nil {
		return fmt.Errorf("set up the monitor: %w", err)
	}
	if err := o.setup(ctx, mgr, allow); err != nil {
		return err
	}
	log.Info("monitor starts", "server", config.Host, "interval", o.interval.String(), "namespace", o.watched())
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	select {
	case err = <-stopped:
	case err = <-lost:
		// Nothing is waited for: what is under way is not to be finished.
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("run the monitor: %w", err)
	}
	log.Info("monitor stopped")
	return nil
}

func (o *monitorOptions) watched() string {
	if o.namespace == "" {
		return "all namespaces"
	}
	return o.namespace
}

// allowed reads and checks the flags that are not only strings.
func (o *monitorOptions) allowed() ([]netip.Prefix, error) {
	if o.interval < time.Second || o.interval > 24*time.Hour {
		return nil, fmt.Errorf("--interval is %v: it must be from 1s to 24h", o.interval)
	}
	if o.workers < 1 {
		return nil, fmt.Errorf("--workers is %d: it must be at least 1", o.workers)
	}
	if o.ticketRetention != 0 && o.ticketRetention < time.Hour {
		return nil, fmt.Errorf("--ticket-retention is %v: it must be at least 1h, or 0 to keep tickets for ever", o.ticketRetention)
	}
	if err := checkPrometheusURL(o.prometheusURL); err != nil {
		return nil, err
	}
	var allow []netip.Prefix
	for _, text := range o.allowAddresses {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			address, addressErr := netip.ParseAddr(text)
			if addressErr != nil {
				return nil, fmt.Errorf("--allow-address is %q: it must be a CIDR such as 127.0.0.0/8, or an address", text)
			}
			prefix = netip.PrefixFrom(address, address.BitLen())
		}
		allow = append(allow, prefix)
	}
	return allow, nil
}

// checkPrometheusURL requires what the CRD requires of the URLs of Invariants.
func checkPrometheusURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || !slices.Contains([]string{"http", "https"}, u.Scheme) || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("--prometheus-url must be like http://prometheus:9090, without a user, a password or a query")
	}
	return nil
}

// config is how to reach the cluster, and the namespace that the monitor itself is at home in: the pod's, or the
// kubeconfig context's.
func (o *monitorOptions) config() (config *rest.Config, own string, err error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	loaded := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context})
	if config, err = loaded.ClientConfig(); err != nil {
		return nil, "", fmt.Errorf("find the cluster: %w; set KUBECONFIG, or --kubeconfig and --context", err)
	}
	if own, _, err = loaded.Namespace(); err != nil {
		return nil, "", fmt.Errorf("find the monitor's own namespace: %w", err)
	}
	config.QPS, config.Burst = clientQPS, clientBurst
	config.Wrap(bounded(requestTimeout))
	config.Wrap(patient)
	config.UserAgent = "invariant-operator/" + version
	return config, own, nil
}

// manager stands for the Lease in the namespace own if it is told to elect a leader, and tells lost if it had it and another has it.
func (o *monitorOptions) manager(config *rest.Config, own string, lost chan<- error) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	options := ctrl.Options{
		Scheme:                        scheme,
		Cache:                         cache.Options{DefaultTransform: cache.TransformStripManagedFields()},
		Metrics:                       o.metrics(),
		HealthProbeBindAddress:        o.probeAddress,
		LeaderElection:                o.leaderElect,
		LeaderElectionID:              leaseName,
		LeaderElectionReleaseOnCancel: true,
		LeaseDuration:                 ptr.To(leaseDuration),
		RenewDeadline:                 ptr.To(renewDeadline),
		RetryPeriod:                   ptr.To(retryPeriod),
		GracefulShutdownTimeout:       ptr.To(stopTimeout),
	}
	if o.namespace != "" {
		options.Cache.DefaultNamespaces = map[string]cache.Config{o.namespace: {}}
	}
	if !o.leaderElect {
		return ctrl.NewManager(config, options)
	}
	recorder := &leaseEvents{}
	lock, err := newLease(config, own, o.name, recorder, lost)
	if err != nil {
		return nil, err
	}
	options.LeaderElectionResourceLockInterface = lock
	mgr, err := ctrl.NewManager(config, options)
	if err == nil {
		recorder.recorder = mgr.GetEventRecorder("monitor")
	}
	return mgr, err
}

func (o *monitorOptions) metrics() metricsserver.Options {
	return metricsserver.Options{
		BindAddress:    cmp.Or(o.metricsAddress, "0"),
		SecureServing:  true,
		FilterProvider: filters.WithAuthenticationAndAuthorization,
		// HTTP/2 can be made to do much for little: CVE-2023-44487, CVE-2023-39325.
		TLSOpts: []func(*tls.Config){func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }},
	}
}

// setup adds all that the monitor does to the manager.
func (o *monitorOptions) setup(ctx context.Context, mgr manager.Manager, allow []netip.Prefix) error {
	observer, objects, err := o.observer(ctx, mgr, allow)
	if err != nil {
		return fmt.Errorf("set up the sources: %w", err)
	}
	reconciler := &controllers.CycleReconciler{
		Client:   mgr.GetClient(),
		Live:     mgr.GetAPIReader(),
		Observer: observer,
		Objects:  objects,
		Recorder: mgr.GetEventRecorder("monitor"),
		Clock:    newClock(),
		Interval: o.interval,
		Workers:  o.workers,
		Monitor:  o.name,
		Log:      mgr.GetLogger(),
	}
	if err := reconciler.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the cycles: %w", err)
	}
	tender := &controllers.TicketReconciler{
		Client:    mgr.GetClient(),
		Live:      mgr.GetAPIReader(),
		Recorder:  reconciler.Recorder,
		Clock:     reconciler.Clock,
		Retention: o.ticketRetention,
		Log:       mgr.GetLogger(),
	}
	if err := tender.SetupWithManager(mgr); err != nil {
		return fmt.Errorf("set up the tickets: %w", err)
	}
	if err := metrics.Registry.Register(controllers.TicketCollector{Reader: mgr.GetClient()}); err != nil {
		return fmt.Errorf("set up the metrics: %w", err)
	}
	return errors.Join(
		mgr.AddHealthzCheck("ping", healthz.Ping),
		mgr.AddReadyzCheck("cache", controllers.CacheSynced(mgr.GetCache())),
	)
}

// observer reads sources: over the network without any right of the monitor, Secrets by name, and objects with a client and a
// mapper of its own, so that neither a burst of lists nor an API that does not say what kinds it has delays a ticket.
func (o *monitorOptions) observer(ctx context.Context, mgr manager.Manager, allow []netip.Prefix) (*observe.Observer, *observe.Objects, error) {
	config := rest.CopyConfig(mgr.GetConfig())
	kinds, err := discovery.NewDiscoveryClientForConfigAndClient(config, mgr.GetHTTPClient())
	if err != nil {
		return nil, nil, err
	}
	config.Wrap(observe.BoundedLists)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, nil, err
	}
	user := whoAmI(ctx, mgr.GetConfig())
	objects := &observe.Objects{Client: client, Kinds: observe.KindsOf(kinds), Clock: newClock()}
	apiServer, err := apiServerAddresses(mgr.GetConfig())
	if err != nil {
		return nil, nil, err
	}
	observer := observe.NewObserver(observe.AddressPolicy{Allow: allow, Refuse: apiServer})
	observer.PrometheusURL, observer.Identity, observer.Objects = o.prometheusURL, user, objects
	observer.Secrets = func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
		secret := &corev1.Secret{}
		err := mgr.GetAPIReader().Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, secret)
		return secret, err
	}
	return observer, objects, nil
}

// apiServerAddresses are where the API server answers this monitor. Not to know them is an error: Invariants could then read from there.
func apiServerAddresses(config *rest.Config) ([]netip.AddrPort, error) {
	u, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("read the address of the API server: %w", err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		port = 443
	}
	var addresses []netip.AddrPort
	resolved, err := net.LookupHost(u.Hostname())
	if err != nil {
		return nil, fmt.Errorf("find the addresses of the API server, which Invariants may not read: %w", err)
	}
	for _, text := range resolved {
		if address, err := netip.ParseAddr(text); err == nil {
			addresses = append(addresses, netip.AddrPortFrom(address.Unmap(), uint16(port)))
		}
	}
	return addresses, nil
}
