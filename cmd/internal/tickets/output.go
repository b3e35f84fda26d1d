package tickets

import (
	"errors"
	"fmt"
	"io"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/cmd/internal/terminal"
)

// sayNothing says that there is nothing, as kubectl does.
func (c *cluster) sayNothing(nothing string) {
	if c.namespace != "" {
		nothing += " in " + c.namespace + " namespace"
	}
	_, _ = fmt.Fprintln(c.errOut, nothing+".")
}

// printTable prints a table whose cells may hold what others wrote.
func printTable(table *metav1.Table, options printers.PrintOptions, w io.Writer) error {
	for _, row := range table.Rows {
		for i, cell := range row.Cells {
			if text, ok := cell.(string); ok {
				row.Cells[i] = terminal.Line(text)
			}
		}
	}
	return printers.NewTablePrinter(options).PrintObj(table, w)
}

// newList returns an empty List, as kubectl prints several objects.
func newList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "List"})
	return list
}

func outputUsage(f *genericclioptions.PrintFlags, more ...string) string {
	return fmt.Sprintf("Output format. One of: (%s).", strings.Join(append(more, f.AllowedFormats()...), ", "))
}

// toPrinter returns the printer that -o asks for. more are formats that -o knows besides.
func toPrinter(f *genericclioptions.PrintFlags, more ...string) (printers.ResourcePrinter, error) {
	printer, err := f.ToPrinter()
	if unknown := (genericclioptions.NoCompatiblePrinterError{}); errors.As(err, &unknown) {
		return nil, fmt.Errorf("--output is %q: use one of %s", *f.OutputFormat, strings.Join(append(more, f.AllowedFormats()...), ", "))
	}
	return printer, err
}
