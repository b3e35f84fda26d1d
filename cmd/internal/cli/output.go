package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"invariant.dev/operator/cmd/internal/terminal"
)

// SayNothing says on stderr that there is nothing, as kubectl does: nothing is such as "No open tickets".
func (c *Cluster) SayNothing(nothing string) {
	if c.namespace != "" {
		nothing += " in " + c.namespace + " namespace"
	}
	_, _ = fmt.Fprintln(c.errOut, nothing+".")
}

// PrintTable prints a table whose cells may hold what others wrote.
func PrintTable(table *metav1.Table, options printers.PrintOptions, w io.Writer) error {
	for _, row := range table.Rows {
		for i, cell := range row.Cells {
			if text, ok := cell.(string); ok {
				row.Cells[i] = terminal.Line(text)
			}
		}
	}
	return printers.NewTablePrinter(options).PrintObj(table, w)
}

// EmptyList returns an empty List, as kubectl prints several objects.
func EmptyList() *unstructured.UnstructuredList {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "List"})
	return list
}

// Output is how a verb prints objects: the flag -o, and those that belong to it.
type Output struct {
	flags *genericclioptions.PrintFlags
	// own are the formats that are for people, besides none at all.
	own []string
}

// NewOutput returns an output of kubectl's formats for programs, and of own, which the verb prints itself.
func NewOutput(own ...string) *Output {
	return &Output{flags: genericclioptions.NewPrintFlags(""), own: own}
}

// AddFlags adds the flags to a verb. inShort ends the help of -o: it says what is printed without it.
func (o *Output) AddFlags(cmd *cobra.Command, inShort string) {
	o.flags.AddFlags(cmd)
	usage := fmt.Sprintf("Output format. One of: (%s).", strings.Join(o.formats(), ", "))
	cmd.Flags().Lookup("output").Usage = strings.TrimSpace(usage + " " + inShort)
	CompleteFlag(cmd, "output", o.formats()...)
}

func (o *Output) formats() []string { return slices.Concat(o.own, o.flags.AllowedFormats()) }

func (o *Output) format() string { return *o.flags.OutputFormat }

func (o *Output) setFormat(format string) { *o.flags.OutputFormat = format }

// ForPeople tells whether the verb itself is to print, in the format of -o if there is one, and not the Printer.
func (o *Output) ForPeople() bool {
	// A template needs no -o.
	return *o.flags.TemplatePrinterFlags.TemplateArgument == "" && (o.format() == "" || slices.Contains(o.own, o.format()))
}

// Printer returns the printer of the format that -o asks for. An error names the formats there are.
func (o *Output) Printer() (printers.ResourcePrinter, error) {
	printer, err := o.flags.ToPrinter()
	if unknown := (genericclioptions.NoCompatiblePrinterError{}); errors.As(err, &unknown) {
		return nil, fmt.Errorf("--output is %q: use one of %s", o.format(), strings.Join(o.formats(), ", "))
	}
	return printer, err
}
