package cli

import (
	"context"
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/cli-runtime/pkg/resource"
)

// tableContentType asks for a table; an error comes as it is.
const tableContentType = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"

// Table returns the API server's own table of the objects that match, in the namespaces that the command is about. The
// object of each row is a T: a whole one if whole is set, else its metadata alone.
func (k Kind[T]) Table(ctx context.Context, c *Cluster, options metav1.ListOptions, whole bool) (*metav1.Table, error) {
	options.Limit = pageSize
	all := &metav1.Table{}
	include := metav1.IncludeMetadata
	if whole {
		include = metav1.IncludeObject
	}
	err := resource.FollowContinue(&options, func(options metav1.ListOptions) (runtime.Object, error) {
		page, err := k.tablePage(ctx, c, options, include)
		if err != nil {
			return nil, err
		}
		if all.ColumnDefinitions == nil {
			all.ColumnDefinitions = page.ColumnDefinitions
		}
		all.Rows = append(all.Rows, page.Rows...)
		all.ResourceVersion = page.ResourceVersion
		return page, nil
	})
	return all, err
}

func (k Kind[T]) tablePage(ctx context.Context, c *Cluster, options metav1.ListOptions, include metav1.IncludeObjectPolicy) (*metav1.Table, error) {
	result := c.tables.Get().
		NamespaceIfScoped(c.namespace, c.namespace != "").
		Resource(k.plural).
		SpecificallyVersionedParams(&options, tableParameters, schema.GroupVersion{Version: "v1"}).
		Param("includeObject", string(include)).
		Do(ctx)
	// Raw would leave out what the API server says of an error.
	if err := result.Error(); err != nil {
		return nil, k.explainList(c, err)
	}
	body, err := result.Raw()
	if err != nil {
		return nil, k.explainList(c, err)
	}
	page := &metav1.Table{}
	// Not Go's own decoder: to it 1000000 is 1e+06.
	if err := utiljson.Unmarshal(body, page); err != nil {
		return nil, fmt.Errorf("read the table of the %s %s: %w", k.plural, c.where(), err)
	}
	for i := range page.Rows {
		object := k.empty()
		if err := json.Unmarshal(page.Rows[i].Object.Raw, object); err != nil {
			return nil, fmt.Errorf("read the table of the %s %s: row %d: %w", k.plural, c.where(), i+1, err)
		}
		page.Rows[i].Object.Object = object
	}
	return page, nil
}

// tableParameters writes list options into a URL.
var tableParameters = func() runtime.ParameterCodec {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return runtime.NewParameterCodec(scheme)
}()
