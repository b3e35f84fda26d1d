package tickets

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"
	authenticationv1client "k8s.io/client-go/kubernetes/typed/authentication/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/retry"

	"invariant.dev/operator/api/v1alpha1"
)

const (
	ticketsResource    = "tickets"
	invariantsResource = "invariants"
	// fieldManager is who the API server says has written a field.
	fieldManager = "kubectl-operator"
	// pageSize is how many objects one request lists, as in kubectl.
	pageSize = 500
	// Requests a second, as in kubectl: a limit on mistakes; the API server's own fairness does the rest.
	clientQPS, clientBurst = 50, 300
)

// cluster is the API server of one command, in the namespace that the command is about.
type cluster struct {
	// program is the command tickets as it was typed, for hints.
	program string
	host    string
	// namespace is the one that the command is about; empty: all.
	namespace string
	dynamic   dynamic.Interface
	tables    rest.Interface
	reviews   authenticationv1client.SelfSubjectReviewInterface
	errOut    io.Writer
	warnings  *printers.WarningPrinter
}

func (c common) connect(cmd *cobra.Command, allNamespaces bool) (*cluster, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	color := printers.AllowsColorOutput(c.ErrOut)
	config.QPS, config.Burst = clientQPS, clientBurst
	config.WarningHandler = rest.NewWarningWriter(c.ErrOut, rest.WarningWriterOptions{Deduplicate: true, Color: color})
	cluster := &cluster{
		program:  cmd.Parent().CommandPath(),
		host:     config.Host,
		errOut:   c.ErrOut,
		warnings: printers.NewWarningPrinter(c.ErrOut, printers.WarningPrinterOptions{Color: color}),
	}
	if !allNamespaces {
		if cluster.namespace, _, err = c.flags.ToRawKubeConfigLoader().Namespace(); err != nil {
			return nil, fmt.Errorf("read the namespace in the kubeconfig: %w", err)
		}
	}
	if err := cluster.makeClients(config); err != nil {
		return nil, fmt.Errorf("use the cluster %s: %w", config.Host, err)
	}
	return cluster, nil
}

func (c *cluster) makeClients(config *rest.Config) error {
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

// where says which namespaces the command is about.
func (c *cluster) where() string {
	if c.namespace == "" {
		return "in all namespaces"
	}
	return "in the namespace " + c.namespace
}

func (c *cluster) resource(name string) dynamic.NamespaceableResourceInterface {
	return c.dynamic.Resource(v1alpha1.GroupVersion.WithResource(name))
}

// list returns all objects of a resource that match.
func (c *cluster) list(ctx context.Context, resourceName string, options metav1.ListOptions) ([]unstructured.Unstructured, error) {
	options.Limit = pageSize
	var all []unstructured.Unstructured
	err := resource.FollowContinue(&options, func(options metav1.ListOptions) (runtime.Object, error) {
		page, err := c.resource(resourceName).Namespace(c.namespace).List(ctx, options)
		if err != nil {
			return nil, c.explain(err, "list", resourceName, "list the "+resourceName+" "+c.where())
		}
		all = append(all, page.Items...)
		return page, nil
	})
	return all, err
}

// get returns the ticket of that name.
func (c *cluster) get(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	object, err := c.resource(ticketsResource).Namespace(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, c.explain(err, "get", ticketsResource, "read the ticket "+name)
	}
	return object, nil
}

// patch merges a change into a ticket, or into its subresource, and returns the ticket as it is then.
func (c *cluster) patch(ctx context.Context, t *v1alpha1.Ticket, change any, dryRun []string, subresource ...string) (*v1alpha1.Ticket, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return nil, fmt.Errorf("encode the change of the ticket %s: %w", t.Name, err)
	}
	options := metav1.PatchOptions{FieldManager: fieldManager, DryRun: dryRun}
	var object *unstructured.Unstructured
	// The API server gives up where others write all the time.
	err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object, err = c.resource(ticketsResource).Namespace(t.Namespace).Patch(ctx, t.Name, types.MergePatchType, body, options, subresource...)
		return err
	})
	if err != nil {
		written := ticketsResource
		for _, name := range subresource {
			written += "/" + name
		}
		return nil, c.explain(err, "patch", written, "change the ticket "+t.Name)
	}
	return decode(object)
}

func decode(object *unstructured.Unstructured) (*v1alpha1.Ticket, error) {
	t := &v1alpha1.Ticket{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, t); err != nil {
		return nil, fmt.Errorf("read the ticket %s/%s: %w", object.GetNamespace(), object.GetName(), err)
	}
	return t, nil
}

// tableContentType asks for a table; an error comes as it is.
const tableContentType = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

// table returns the API server's own table of the tickets that match. The object of each row is a
// *v1alpha1.Ticket: a whole one if whole is set, else its metadata alone.
func (c *cluster) table(ctx context.Context, options metav1.ListOptions, whole bool) (*metav1.Table, error) {
	options.Limit = pageSize
	all := &metav1.Table{}
	include := metav1.IncludeMetadata
	if whole {
		include = metav1.IncludeObject
	}
	err := resource.FollowContinue(&options, func(options metav1.ListOptions) (runtime.Object, error) {
		page, err := c.tablePage(ctx, options, include)
		if err != nil {
			return nil, err
		}
		if all.ColumnDefinitions == nil {
			all.ColumnDefinitions = page.ColumnDefinitions
		}
		all.Rows = append(all.Rows, page.Rows...)
		return page, nil
	})
	return all, err
}

func (c *cluster) tablePage(ctx context.Context, options metav1.ListOptions, include metav1.IncludeObjectPolicy) (*metav1.Table, error) {
	result := c.tables.Get().
		NamespaceIfScoped(c.namespace, c.namespace != "").
		Resource(ticketsResource).
		SpecificallyVersionedParams(&options, tableParameters, schema.GroupVersion{Version: "v1"}).
		Param("includeObject", string(include)).
		Do(ctx)
	// Raw would leave out what the API server says of an error.
	if err := result.Error(); err != nil {
		return nil, c.explain(err, "list", ticketsResource, "list the tickets "+c.where())
	}
	body, err := result.Raw()
	if err != nil {
		return nil, c.explain(err, "list", ticketsResource, "list the tickets "+c.where())
	}
	page := &metav1.Table{}
	// Not Go's own decoder: to it 1000000 is 1e+06.
	if err := utiljson.Unmarshal(body, page); err != nil {
		return nil, fmt.Errorf("read the table of the tickets %s: %w", c.where(), err)
	}
	for i := range page.Rows {
		t := &v1alpha1.Ticket{}
		if err := json.Unmarshal(page.Rows[i].Object.Raw, t); err != nil {
			return nil, fmt.Errorf("read the table of the tickets %s: row %d: %w", c.where(), i+1, err)
		}
		page.Rows[i].Object.Object = t
	}
	return page, nil
}

// tableParameters writes list options into a URL.
var tableParameters = func() runtime.ParameterCodec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return runtime.NewParameterCodec(scheme)
}()
