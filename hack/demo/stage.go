package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"invariant.dev/operator/hack/controlplane"
)

// sample is what is applied, with the addresses of the demo's own members.
const sample = "config/samples/etcd/invariants.yaml"

// interval is short, for the sake of whoever watches.
const interval = "2s"

// victim is the member that dies: the last of three, and never their leader.
const victim = 3

// stage is all that the story plays on.
type stage struct {
	plane     *controlplane.ControlPlane
	monitor   *controlplane.Program
	members   *members
	dir       string
	manifests string
	env       []string
	bin       string

	print sync.Mutex
	// handedOver: the story is over, and somebody plays with what runs.
	handedOver atomic.Bool
}

func setStage(ctx context.Context) (*stage, error) {
	bin, err := binDir()
	if err != nil {
		return nil, err
	}
	s := &stage{bin: bin}
	s.say("Starting a Kubernetes control plane of our own: etcd, kube-apiserver and two controllers.")
	if s.plane, err = controlplane.Start(ctx, controlplane.Options{}); err != nil {
		return s, err
	}
	if s.dir, err = s.plane.MkdirTemp("demo-"); err != nil {
		return s, err
	}
	kubectl, err := controlplane.Binary("kubectl")
	if err != nil {
		return s, err
	}
	s.env = append(os.Environ(), controlplane.Env(s.plane.Kubeconfig)...)
	s.env = append(s.env, "PATH="+strings.Join([]string{bin, filepath.Dir(kubectl), os.Getenv("PATH")}, string(os.PathListSeparator)))
	s.say("Starting what will be observed: an etcd cluster of three members.")
	if s.members, err = startMembers(ctx, s.plane, s.dir); err != nil {
		return s, err
	}
	if err := s.writeManifests(); err != nil {
		return s, err
	}
	s.say("Installing the CRDs and starting the monitor, with a check every " + interval + " instead of 30s.")
	if err := s.enter(ctx, "kubectl apply --server-side -k config/crd"); err != nil {
		return s, err
	}
	return s, s.startMonitor(ctx)
}

// binDir is where this program and the ones it shows were built.
func binDir() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	bin := filepath.Dir(self)
	for _, name := range []string{"operator", "kubectl-operator"} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return "", fmt.Errorf("%s is not built: run make demo", name)
		}
	}
	return bin, nil
}

func (s *stage) writeManifests() error {
	text, err := os.ReadFile(sample)
	if err != nil {
		return fmt.Errorf("%w: run the demo in the root of the repository", err)
	}
	var addresses []string
	for i, address := range s.members.client {
		addresses = append(addresses, fmt.Sprintf("http://etcd-%d:2379", i), address)
	}
	s.manifests = filepath.Join(s.dir, "etcd.yaml")
	return os.WriteFile(s.manifests, []byte(strings.NewReplacer(addresses...).Replace(string(text))), 0o600)
}

// account is a kubeconfig of the monitor's ServiceAccount, with the role of config/rbac and nothing else.
func (s *stage) account(ctx context.Context) (string, error) {
	if err := s.plane.Namespace(ctx, "operator-system"); err != nil {
		return "", err
	}
	if _, _, err := controlplane.Kubectl(ctx, s.plane.Kubeconfig, "", "apply", "-k", "config/rbac"); err != nil {
		return "", err
	}
	_, kubeconfig, err := s.plane.ServiceAccount(ctx, "operator-system", "operator-monitor")
	return kubeconfig, err
}

func (s *stage) startMonitor(ctx context.Context) error {
	kubeconfig, err := s.account(ctx)
	if err != nil {
		return fmt.Errorf("make the monitor's account: %w", err)
	}
	args := []string{"monitor", "--interval", interval, "--allow-address", "127.0.0.0/8"}
	s.show("operator " + strings.Join(args, " ") + " &")
	reader, writer := io.Pipe()
	go s.relay(reader)
	s.monitor, err = s.plane.StartProgram("monitor", filepath.Join(s.bin, "operator"), writer,
		append(args, "--kubeconfig", kubeconfig)...)
	return err
}

// relay shows what the monitor logs of tickets and checks.
func (s *stage) relay(log io.Reader) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "error:") {
			s.show("    monitor: " + line)
		}
		// Once it is yours to play with, only what happens is shown, so that what to do stays in sight.
		heartbeat := strings.Contains(line, "Check complete") && !s.handedOver.Load()
		if !strings.Contains(line, `msg="Ticket `) && !heartbeat && !strings.Contains(line, "level=ERROR") {
			continue
		}
		_, message, _ := strings.Cut(line, "level=")
		s.print.Lock()
		fmt.Println("    monitor: " + message)
		s.print.Unlock()
	}
}

func (s *stage) say(text string) {
	s.print.Lock()
	defer s.print.Unlock()
	fmt.Println("\n# " + text)
}

func (s *stage) show(command string) {
	s.print.Lock()
	defer s.print.Unlock()
	fmt.Println("$ " + command)
}

// enter runs commands as a user would type them, and shows them and what they print.
func (s *stage) enter(ctx context.Context, commands ...string) error {
	for _, command := range commands {
		s.show(command)
		cmd := exec.CommandContext(ctx, "bash", "-c", command)
		cmd.Env = s.env
		out, err := cmd.CombinedOutput()
		s.print.Lock()
		fmt.Print(string(out))
		s.print.Unlock()
		if err != nil {
			return fmt.Errorf("%s: %w", command, err)
		}
	}
	return nil
}

func (s *stage) killMember() error {
	s.show(fmt.Sprintf("kill -9 %d    # etcd member %d", s.members.pid(victim), victim))
	return s.members.kill(victim)
}

func (s *stage) startMember(ctx context.Context) error {
	s.show(fmt.Sprintf("etcd --name member-%d ... &", victim))
	return s.members.start(ctx, victim)
}

// handOver leaves everything running until it is interrupted.
func (s *stage) handOver(ctx context.Context) {
	s.handedOver.Store(true)
	fmt.Printf(`
All of it keeps running until you press Ctrl-C. In another terminal:

  export KUBECONFIG=%s
  export PATH=%s:%s:$PATH

  kubectl get invariants,tickets
  kubectl operator tickets show etcd-2
  kubectl explain invariant.spec

To bring the dead member back, and see its ticket resolve:

  %s &

`, s.plane.Kubeconfig, s.bin, filepath.Join(s.bin, "k8s"), s.members.command(victim))
	<-ctx.Done()
}

// clear ends all that was started and removes its files.
func (s *stage) clear() error {
	var errs []error
	if s.monitor != nil {
		errs = append(errs, s.monitor.Stop())
	}
	if s.members != nil {
		errs = append(errs, s.members.stop())
	}
	if s.plane != nil {
		errs = append(errs, s.plane.Stop())
	}
	return errors.Join(errs...)
}

// members are the observed etcd cluster.
type members struct {
	plane        *controlplane.ControlPlane
	dir          string
	programs     map[int]*controlplane.Program
	client, peer map[int]string
}

func startMembers(ctx context.Context, plane *controlplane.ControlPlane, dir string) (*members, error) {
	m := &members{plane: plane, dir: dir, programs: map[int]*controlplane.Program{}, client: map[int]string{}, peer: map[int]string{}}
	addresses, err := freeAddresses(6)
	if err != nil {
		return nil, err
	}
	for i := 1; i <= 3; i++ {
		m.client[i], m.peer[i] = "http://"+addresses[i-1], "http://"+addresses[i+2]
	}
	// The first two elect a leader before the victim joins: were it the leader, its death would trouble the others too.
	for i := 1; i < victim; i++ {
		if err := m.launch(i); err != nil {
			return m, err
		}
	}
	for i := 1; i < victim; i++ {
		if err := m.healthy(ctx, i); err != nil {
			return m, err
		}
	}
	if err := m.start(ctx, victim); err != nil {
		return m, err
	}
	return m, nil
}

// freeAddresses are loopback addresses on which nobody listens.
func freeAddresses(n int) ([]string, error) {
	addresses := make([]string, 0, n)
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// name is what a member is called.
func (m *members) name(i int) string { return fmt.Sprintf("member-%d", i) }

// args are the flags of a member's etcd.
func (m *members) args(i int) []string {
	return []string{
		"--name", m.name(i),
		"--data-dir", filepath.Join(m.dir, m.name(i)),
		"--listen-client-urls", m.client[i], "--advertise-client-urls", m.client[i],
		"--listen-peer-urls", m.peer[i], "--initial-advertise-peer-urls", m.peer[i],
		"--initial-cluster", fmt.Sprintf("member-1=%s,member-2=%s,member-3=%s", m.peer[1], m.peer[2], m.peer[3]),
		"--unsafe-no-fsync",
	}
}

// command is what starts a member by hand.
func (m *members) command(i int) string {
	return "etcd --log-level error " + strings.Join(m.args(i), " ")
}

// launch starts a member and does not wait for it.
func (m *members) launch(i int) error {
	etcd, err := controlplane.Binary("etcd")
	if err != nil {
		return err
	}
	program, err := m.plane.StartProgram(m.name(i), etcd, io.Discard, m.args(i)...)
	if err != nil {
		return err
	}
	m.programs[i] = program
	return nil
}

func (m *members) start(ctx context.Context, i int) error {
	if err := m.launch(i); err != nil {
		return err
	}
	return m.healthy(ctx, i)
}

// healthy waits until a member says that it is.
func (m *members) healthy(ctx context.Context, i int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, m.client[i]+"/health", http.NoBody)
		if err != nil {
			return err
		}
		if response, err := http.DefaultClient.Do(request); err == nil {
			_ = response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd member %d did not become healthy: %w", i, ctx.Err())
		case <-tick.C:
		}
	}
}

func (m *members) pid(i int) int { return m.programs[i].Pid() }

func (m *members) kill(i int) error { return m.programs[i].Kill() }

func (m *members) stop() error {
	errs := make([]error, 0, len(m.programs))
	for _, program := range m.programs {
		errs = append(errs, program.Kill())
	}
	return errors.Join(errs...)
}
