package controlplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"invariant.dev/operator/hack/programs"
)

// Binary returns the path of one of the programs that make controlplane builds: etcd, kube-apiserver, kubectl
// or controllers. It looks in $KUBEBUILDER_ASSETS, else in bin/k8s of this repository. Assets made elsewhere
// do not have controllers: it is taken from bin/k8s then. A missing program is an error that says how to
// build it.
func Binary(name string) (string, error) {
	var looked []string
	if assets := os.Getenv("KUBEBUILDER_ASSETS"); assets != "" {
		looked = append(looked, assets)
	}
	if len(looked) == 0 || name == "controllers" {
		root, err := programs.Root()
		if err != nil {
			return "", fmt.Errorf("finding the program %s: %w", name, err)
		}
		looked = append(looked, filepath.Join(root, "bin", "k8s"))
	}
	for _, dir := range looked {
		path, err := filepath.Abs(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("finding the program %s: %w", name, err)
		}
		if programs.IsProgram(path) {
			return path, nil
		}
	}
	hint := "run make controlplane"
	if name != "controllers" && os.Getenv("KUBEBUILDER_ASSETS") != "" {
		hint = "unset KUBEBUILDER_ASSETS and run make controlplane"
	}
	return "", fmt.Errorf("the program %s is not in %s: %s", name, strings.Join(looked, " or "), hint)
}

// Kubectl runs kubectl with that kubeconfig and standard input, and returns what it printed. The error of a
// kubectl that failed holds its standard error too. It reads nothing of the user's own: neither preferences
// nor what another cluster at the same address left in a discovery cache.
func Kubectl(ctx context.Context, kubeconfig, stdin string, args ...string) (stdout, stderr string, err error) {
	path, err := Binary("kubectl")
	if err != nil {
		return "", "", err
	}
	var out, errOut bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), Env(kubeconfig)...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = errors.Join(err, context.Cause(ctx))
		}
		return out.String(), errOut.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(errOut.String()))
	}
	return out.String(), errOut.String(), nil
}

// Env is the environment in which kubectl, or a program built on the same libraries, uses that kubeconfig and
// nothing else of the user's: append it to os.Environ. The discovery cache is kept beside the kubeconfig.
func Env(kubeconfig string) []string {
	return []string{
		"KUBECONFIG=" + kubeconfig,
		"KUBECACHEDIR=" + filepath.Join(filepath.Dir(kubeconfig), "cache"),
		"KUBERC=off",
	}
}
