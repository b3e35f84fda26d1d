package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/dynamic"
	authenticationv1client "k8s.io/client-go/kubernetes/typed/authentication/v1"
	"k8s.io/client-go/rest"

	"invariant.dev/operator/api/v1alpha1"
)

const (
	// FieldManager is who the API server says has written a field.
	FieldManager = "kubectl-operator"
	// pageSize is how many objects one request lists, as in kubectl.
	pageSize = 500
	// Requests a second, as in kubectl: a limit on mistakes; the API server's own fairness does the rest.
	clientQPS, clientBurst = 50, 300
)

// Cluster is the API server of one command, in the namespace that the command is about.
type Cluster struct {
	// Command is the command above the verb as it was typed, such as "operator tickets", for hints.
	Command string
	host    string
	// namespace is the one that the command is about; empty: all.
	namespace string
	dynamic   dynamic.Interface
	mapper    meta.RESTMapper
	tables    rest.Interface
	reviews   authenticationv1client.SelfSubjectReviewInterface
	user      string
	errOut    io.Writer
	warnings  *printers.WarningPrinter
}

// Connect returns the cluster that kubectl's flags name, in their namespace or in all. cmd is the verb. It sends no
// request yet: an error is one of the kubeconfig.
func (c Common) Connect(cmd *cobra.Command, allNamespaces bool) (*Cluster, error) {
	config, err := c.Flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	color := printers.AllowsColorOutput(c.ErrOut)
	config.QPS, config.Burst = clientQPS, clientBurst
	config.WarningHandler = rest.NewWarningWriter(c.ErrOut, rest.WarningWriterOptions{Deduplicate: true, Color: color})
	cluster := &Cluster{
		Command:  cmd.Parent().CommandPath(),
		host:     config.Host,
		errOut:   c.ErrOut,
		warnings: printers.NewWarningPrinter(c.ErrOut, printers.WarningPrinterOptions{Color: color}),
	}
	if !allNamespaces {
		if cluster.namespace, _, err = c.Flags.ToRawKubeConfigLoader().Namespace(); err != nil {
			return nil, fmt.Errorf("read the namespace in the kubeconfig: %w", err)
		}
	}
	if cluster.mapper, err = c.Flags.ToRESTMapper(); err != nil {
		return nil, fmt.Errorf("use the cluster %s: %w", config.Host, err)
	}
	if err := cluster.makeClients(config); err != nil {
		return nil, fmt.Errorf("use the cluster %s: %w", config.Host, err)
	}
	return cluster, nil
}

func (c *Cluster) makeClients(config *rest.Config) error {
	var err error
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	authentication, err := authenticationv1client.NewForConfig(config)
	if err != nil {
		return err
	}
	c.reviews = authentication.SelfSubjectReviews()
	tables := dynamic.ConfigFor(config)
	tables.APIPath, tables.GroupVersion = "/apis", &v1alpha1.GroupVersion
	tables.AcceptContentTypes = tableContentType
	c.tables, err = rest.RESTClientFor(tables)
	return err
}

// Dynamic reads and writes objects of any kind.
func (c *Cluster) Dynamic() dynamic.Interface { return c.dynamic }

// Mapper finds the resources of kinds.
func (c *Cluster) Mapper() meta.RESTMapper { return c.mapper }

// where says which namespaces the command is about.
func (c *Cluster) where() string {
	if c.namespace == "" {
		return "in all namespaces"
	}
	return "in the namespace " + c.namespace
}

// Warn prints a warning on stderr, as kubectl does.
func (c *Cluster) Warn(message string) { c.warnings.Print(message) }

// User is who the API server takes the user for. It is asked once.
func (c *Cluster) User(ctx context.Context) (string, error) {
	if c.user != "" {
		return c.user, nil
	}
	review, err := c.reviews.Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return "", c.explain(err, "create", "selfsubjectreviews", "ask the API server who you are")
	}
	c.user = review.Status.UserInfo.Username
	return c.user, nil
}
