// Package controlplane runs a Kubernetes control plane on this machine, for tests, the demo and the benchmark:
// etcd, kube-apiserver, and the two controllers without which roles and namespaces do not work. There is no
// scheduler and no kubelet: Pods and Deployments are stored, and nothing runs them.
package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"invariant.dev/operator/hack/programs"
)

const (
	// startTimeout bounds how long each program may take to be ready; it is long for the sake of busy machines.
	startTimeout = time.Minute
	pollInterval = 25 * time.Millisecond
	tokenSeconds = 24 * 60 * 60
)

// Options for Start.
type Options struct {
	// Log gets the output of all programs. Default: discarded; the end of it is in the error of a failed start.
	Log io.Writer
	// APIServerArgs are flags for kube-apiserver, without the leading dashes. They replace those of the same
	// name that are set otherwise.
	APIServerArgs map[string][]string
}

// ControlPlane is a running control plane. Its methods may be called from several goroutines.
type ControlPlane struct {
	// Config is for its administrator, a member of system:masters, with no limit on requests. Copy it before
	// changing it.
	Config *rest.Config
	// Kubeconfig is the path of a kubeconfig file of that administrator. It is gone after Stop.
	Kubeconfig string

	dir         string
	guard       *programs.Guard
	etcd        *programs.Process
	plane       *envtest.ControlPlane
	controllers *programs.Process
	client      client.Client
	// http is the administrator's, and log takes the output of all programs.
	http *http.Client
	log  io.Writer

	stop    sync.Once
	stopErr error
}

// Start starts a control plane and returns when it is ready: the API server answers, the namespaces default
// and kube-system exist, and the aggregated ClusterRoles are filled. The CRDs of this repository are not
// installed: see InstallCRDs. ctx bounds the start alone; Stop ends what is running.
//
// Many can run at once. The API server listens on a free loopback port and nothing else of it can be reached
// over the network. RBAC is on. The admission plugin ServiceAccount is off, as always in envtest: no controller
// makes the ServiceAccount default that it would ask for.
//
// Whatever ends this process, kill -9 included, a helper process then kills the control plane and removes its
// files.
func Start(ctx context.Context, o Options) (*ControlPlane, error) {
	for _, name := range []string{"etcd", "kube-apiserver", "controllers"} {
		if _, err := Binary(name); err != nil {
			return nil, fmt.Errorf("starting a control plane: %w", err)
		}
	}
	dir, err := makeDir()
	if err != nil {
		return nil, fmt.Errorf("making a directory for a control plane: %w", err)
	}
	c := &ControlPlane{dir: dir}
	log := o.Log
	if log == nil {
		log = io.Discard
	}
	c.log = &lockedWriter{w: log}
	if err := c.start(ctx, c.log, o.APIServerArgs); err != nil {
		return nil, errors.Join(fmt.Errorf("starting a control plane: %w", err), c.Stop())
	}
	return c, nil
}

// maxSocketPath is how long the path of a Unix socket may be on any system.
const maxSocketPath = 100

// makeDir makes the directory of a control plane, in a place whose name is short enough for a socket.
func makeDir() (string, error) {
	const pattern = "controlplane-"
	parent := os.TempDir()
	if len(filepath.Join(parent, pattern+"0123456789", "etcd.sock")) > maxSocketPath {
		parent = "/tmp"
	}
	return os.MkdirTemp(parent, pattern)
}

func (c *ControlPlane) start(ctx context.Context, log io.Writer, apiServerArgs map[string][]string) error {
	var err error
	if c.guard, err = programs.StartGuard(c.dir); err != nil {
		return err
	}
	if err := c.startEtcd(ctx, log); err != nil {
		return err
	}
	if err := c.startAPIServer(ctx, log, apiServerArgs); err != nil {
		return err
	}
	if c.controllers, err = c.startBinary("controllers", log, "--kubeconfig", c.Kubeconfig); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// startEtcd does by itself what envtest would do on two TCP ports. On a Unix socket nobody else's etcd can be
// mistaken for ours, and nobody else can take the port between its choice and its use.
func (c *ControlPlane) startEtcd(ctx context.Context, log io.Writer) error {
	socket := filepath.Join(c.dir, "etcd.sock")
	var err error
	c.etcd, err = c.startBinary("etcd", log,
		"--data-dir", filepath.Join(c.dir, "etcd.data"),
		"--listen-client-urls", "unix://"+socket,
		"--advertise-client-urls", "unix://"+socket,
		"--listen-peer-urls", "http://127.0.0.1:0", // a single member has no peers
		"--unsafe-no-fsync")
	if err != nil {
		return err
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	return poll(ctx, "etcd to be ready", func(ctx context.Context) error {
		if err := c.etcd.Check(); err != nil {
			return fatal{err}
		}
		return get(ctx, &http.Client{Transport: transport}, "http://etcd/readyz")
	})
}

// startAPIServer tries several ports: envtest reserves a port among the programs that use it, but any other
// program can take it before kube-apiserver does.
func (c *ControlPlane) startAPIServer(ctx context.Context, log io.Writer, args map[string][]string) error {
	binary, err := Binary("kube-apiserver")
	if err != nil {
		return err
	}
	path, err := programs.Launcher(c.dir, "kube-apiserver", binary)
	if err != nil {
		return err
	}
	var errs []error
	for try := 1; try <= 3; try++ {
		err := c.tryAPIServer(ctx, path, log, args, filepath.Join(c.dir, fmt.Sprintf("apiserver-%d", try)))
		if err == nil {
			return nil
		}
		if c.plane != nil {
			errs = append(errs, c.plane.APIServer.Stop())
		}
		errs = append(errs, err)
		if !errors.Is(err, errPortTaken) {
			break
		}
	}
	return errors.Join(errs...)
}

var errPortTaken = errors.New("another program took its port")

func (c *ControlPlane) tryAPIServer(ctx context.Context, path string, log io.Writer, args map[string][]string, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of kube-apiserver: %w", err)
	}
	out := programs.NewTail(log, programs.TailBytes)
	server := &envtest.APIServer{
		Path:         path,
		CertDir:      dir,
		EtcdURL:      &url.URL{Scheme: "unix", Path: filepath.Join(c.dir, "etcd.sock")},
		StartTimeout: startTimeout,
		StopTimeout:  programs.StopTimeout,
		Out:          out,
		Err:          out,
	}
	// Without these, a machine that has no network but loopback has no address to advertise.
	server.Configure().Set("advertise-address", "127.0.0.1").Set("endpoint-reconciler-type", "none")
	// Without this, open watches hold up the stop until they time out.
	server.Configure().Set("shutdown-watch-termination-grace-period", "200ms")
	for name, values := range args {
		server.Configure().Set(name, values...)
	}
	c.plane = &envtest.ControlPlane{APIServer: server}
	// envtest knows no context: without this, a start that is given up would go on for up to startTimeout.
	interrupt := context.AfterFunc(ctx, func() { programs.KillNoted(path) })
	err := server.Start()
	interrupt()
	if err != nil {
		if strings.Contains(out.String(), "address already in use") {
			err = errPortTaken
		}
		return fmt.Errorf("starting kube-apiserver: %w: %s", errors.Join(err, context.Cause(ctx)), out.Last())
	}
	if c.Config, c.Kubeconfig, err = c.User("admin", "system:masters"); err != nil {
		return err
	}
	// envtest takes any answer on that port for a sign of life. Only our own server has our certificate.
	if c.http, err = rest.HTTPClientFor(c.Config); err != nil {
		return fmt.Errorf("making the administrator's HTTP client: %w", err)
	}
	options := client.Options{HTTPClient: c.http, Scheme: scheme.Scheme, Log: logr.Discard()}
	if c.client, err = client.New(c.Config, options); err != nil {
		return fmt.Errorf("making the administrator's client: %w", err)
	}
	return poll(ctx, "kube-apiserver to be ready", func(ctx context.Context) error {
		err := get(ctx, c.http, c.Config.Host+"readyz")
		if notOurs := (&tls.CertificateVerificationError{}); errors.As(err, &notOurs) {
			return fatal{fmt.Errorf("%w: %w", errPortTaken, err)}
		}
		return err
	})
}

// waitReady waits for what is made in the background once the API server answers.
func (c *ControlPlane) waitReady(ctx context.Context) error {
	return poll(ctx, "namespaces and roles to be there", func(ctx context.Context) error {
		if err := c.controllers.Check(); err != nil {
			return fatal{err}
		}
		for _, name := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
			if err := c.client.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{}); err != nil {
				return err
			}
		}
		for _, name := range []string{"view", "edit", "admin"} {
			var role rbacv1.ClusterRole
			if err := c.client.Get(ctx, client.ObjectKey{Name: name}, &role); err != nil {
				return err
			}
			if len(role.Rules) == 0 {
				return fmt.Errorf("the ClusterRole %s is empty", name)
			}
		}
		return nil
	})
}

// Stop ends all programs and removes their files. It may be called more than once, and returns the same then.
func (c *ControlPlane) Stop() error {
	c.stop.Do(func() {
		var errs []error
		if c.controllers != nil {
			errs = append(errs, c.controllers.Stop())
		}
		if c.plane != nil {
			errs = append(errs, c.endAPIServer())
		}
		if c.etcd != nil {
			errs = append(errs, c.etcd.Stop())
		}
		// What is removed first, the guard cannot kill: the IDs may be others' by now.
		errs = append(errs, os.RemoveAll(c.dir))
		if c.guard != nil {
			errs = append(errs, c.guard.Dismiss())
		}
		if err := errors.Join(errs...); err != nil {
			c.stopErr = fmt.Errorf("stopping the control plane: %w", err)
		}
	})
	return c.stopErr
}

// InstallCRDs installs the CRDs of config/crd/bases, or updates them, and waits until the API server serves
// both kinds, for a minute at most.
func (c *ControlPlane) InstallCRDs(ctx context.Context) error {
	root, err := programs.Root()
	if err != nil {
		return fmt.Errorf("installing the CRDs: %w", err)
	}
	crds, err := envtest.InstallCRDs(c.Config, envtest.CRDInstallOptions{
		Paths:              []string{filepath.Join(root, "config", "crd", "bases")},
		ErrorIfPathMissing: true,
		MaxTime:            startTimeout,
		PollInterval:       pollInterval,
	})
	if err != nil {
		return fmt.Errorf("installing the CRDs: %w", err)
	}
	for _, crd := range crds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{
			Group: crd.Spec.Group, Version: crd.Spec.Versions[0].Name, Kind: crd.Spec.Names.ListKind})
		if err := poll(ctx, crd.Name+" to be served", func(ctx context.Context) error {
			return c.client.List(ctx, list, client.Limit(1))
		}); err != nil {
			return fmt.Errorf("installing the CRDs: %w", err)
		}
	}
	return nil
}

// User makes a client certificate for a user of that name in those groups. It returns a configuration with no
// limit on requests, and the path of a kubeconfig file, which is gone after Stop. RBAC decides what the user
// may do: at first, no more than any authenticated user.
func (c *ControlPlane) User(name string, groups ...string) (*rest.Config, string, error) {
	user, err := c.plane.AddUser(envtest.User{Name: name, Groups: groups}, &rest.Config{QPS: -1})
	if err != nil {
		return nil, "", fmt.Errorf("making the user %s: %w", name, err)
	}
	path, err := c.writeKubeconfig(user.Config())
	if err != nil {
		return nil, "", fmt.Errorf("making the user %s: %w", name, err)
	}
	return user.Config(), path, nil
}

// ServiceAccount asks the API server for a token of that ServiceAccount, valid for a day. It returns a
// configuration with no limit on requests, and the path of a kubeconfig file, which is gone after Stop. It is
// an error if the ServiceAccount does not exist.
func (c *ControlPlane) ServiceAccount(ctx context.Context, namespace, name string) (*rest.Config, string, error) {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	seconds := int64(tokenSeconds)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := c.client.SubResource("token").Create(ctx, account, request); err != nil {
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("%w: create it first", err)
		}
		return nil, "", fmt.Errorf("requesting a token of the ServiceAccount %s/%s: %w", namespace, name, err)
	}
	config := rest.AnonymousClientConfig(c.Config)
	config.BearerToken = request.Status.Token
	path, err := c.writeKubeconfig(config)
	if err != nil {
		return nil, "", fmt.Errorf("writing a kubeconfig of the ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return config, path, nil
}

func (c *ControlPlane) writeKubeconfig(config *rest.Config) (path string, err error) {
	const entry = "controlplane"
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters[entry] = &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	kubeconfig.AuthInfos[entry] = &clientcmdapi.AuthInfo{
		ClientCertificateData: config.CertData,
		ClientKeyData:         config.KeyData,
		Token:                 config.BearerToken,
	}
	kubeconfig.Contexts[entry] = &clientcmdapi.Context{Cluster: entry, AuthInfo: entry}
	kubeconfig.CurrentContext = entry
	// A directory each: what is cached beside one user's kubeconfig is not another's.
	dir, err := os.MkdirTemp(c.dir, "user-")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "kubeconfig")
	return path, clientcmd.WriteToFile(*kubeconfig, path)
}

// Namespace makes a namespace. It is no error if the namespace is there; one that is being deleted is waited
// for, and made again.
func (c *ControlPlane) Namespace(ctx context.Context, name string) error {
	err := poll(ctx, "the namespace", func(ctx context.Context) error {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		err := c.client.Create(ctx, namespace)
		if err == nil {
			return nil
		}
		if !apierrors.IsAlreadyExists(err) {
			return fatal{err}
		}
		if err := c.client.Get(ctx, client.ObjectKeyFromObject(namespace), namespace); err != nil {
			return err
		}
		if namespace.DeletionTimestamp != nil {
			return errors.New("it is being deleted")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("making the namespace %s: %w", name, err)
	}
	return nil
}

// fatal is an error that no further try will mend.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }

// poll calls try until it succeeds, fails for good, or startTimeout is over.
func poll(ctx context.Context, what string, try func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, pollInterval, startTimeout, true, func(ctx context.Context) (bool, error) {
		err := try(ctx)
		if f := (fatal{}); errors.As(err, &f) {
			last = nil
			return false, f.error
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		return err == nil, nil
	})
	if err == nil {
		return nil
	}
	if last != nil {
		err = fmt.Errorf("%w; the last try: %w", err, last)
	}
	return fmt.Errorf("waiting for %s: %w", what, err)
}

func get(ctx context.Context, httpClient *http.Client, address string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := httpClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, 4096))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", address, response.Status, body)
	}
	return nil
}

// lockedWriter lets several programs share one log.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
