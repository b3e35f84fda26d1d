package tickets

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
	"invariant.dev/operator/cmd/internal/terminal"
)

const (
	// maxDiagnosis is how many characters the API server takes.
	maxDiagnosis = 65536
	// maxFile is more bytes than so many characters can have.
	maxFile = 1 << 20
)

type diagnoseOptions struct {
	change
	text    string
	file    string
	replace bool
}

func newDiagnoseCommand(c cli.Common) *cobra.Command {
	o := &diagnoseOptions{change: newChange(c)}
	cmd := &cobra.Command{
		Use:   "diagnose ID... (--text TEXT | -f FILE)",
		Short: "Write down what was the matter",
		Long: `Attach a diagnosis to tickets: what was the matter, in at most 65536 characters. Plain text and Markdown read best.

An open ticket becomes Diagnosed. A resolved one takes a diagnosis too, and stays resolved.

A diagnosis that is there is replaced by yours only if it is your own, or with --replace. The ticket keeps the last
three that were replaced, the first 8 KiB of each.`,
		Example: `  # In a few words
  PROGRAM tickets diagnose tikv-prod-17 --text "The disk of store 3 is full of logs: rotation was off."

  # From a file, or from another program
  PROGRAM tickets diagnose tikv-prod-17 -f findings.md
  PROGRAM tickets show tikv-prod-17 -o json | my-agent | PROGRAM tickets diagnose tikv-prod-17 -f -

  # In the place of a colleague's
  PROGRAM tickets diagnose tikv-prod-17 --replace --text "It was the switch after all."`,
		ValidArgsFunction: completeIDs(c, toDiagnose),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.AddFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.text, "text", "", "The diagnosis. At most 65536 characters.")
	f.StringVarP(&o.file, "filename", "f", "", "A file with the diagnosis, or - for standard input. Line breaks at its end are left out.")
	f.BoolVar(&o.replace, "replace", false, "Replace the diagnosis of somebody else. The ticket keeps it.")
	return cmd
}

func (o *diagnoseOptions) run(cmd *cobra.Command, args []string) error {
	switch text, file := cmd.Flags().Changed("text"), cmd.Flags().Changed("filename"); {
	case text && file:
		return cli.UsageError(cmd, "--text and --filename cannot be used together")
	case !text && !file:
		return cli.UsageError(cmd, "what was the matter? Give --text, or --filename (- is standard input)")
	case file:
		text, err := o.read()
		if err != nil {
			return fmt.Errorf("read the diagnosis: %w", err)
		}
		o.text = text
	}
	if err := checkDiagnosis(o.text); err != nil {
		return err
	}
	return o.Run(cmd, args, o.diagnose)
}

func (o *diagnoseOptions) read() (string, error) {
	in := o.In
	if o.file != "-" {
		file, err := os.Open(o.file)
		if err != nil {
			return "", err
		}
		defer func() { _ = file.Close() }()
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile))
	if len(text) == maxFile {
		return "", fmt.Errorf("it is too long: it may have %d characters; shorten it, and say where the details are", maxDiagnosis)
	}
	return strings.TrimRight(string(text), "\r\n"), err
}

// checkDiagnosis says of a diagnosis what the API server would say later, or would not mind.
func checkDiagnosis(text string) error {
	length := utf8.RuneCountInString(text)
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("the diagnosis is empty")
	case !utf8.ValidString(text):
		return errors.New("the diagnosis is not text in UTF-8")
	case length > maxDiagnosis:
		return fmt.Errorf("the diagnosis is too long: it has %d characters and may have %d; shorten it, and say where the details are", length, maxDiagnosis)
	}
	return nil
}

func (o *diagnoseOptions) diagnose(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (string, error) {
	me, err := c.User(ctx)
	if err != nil {
		return "", err
	}
	status := map[string]any{}
	if t.Status.State == v1alpha1.Open || t.Status.State == v1alpha1.Acknowledged {
		status["state"] = v1alpha1.Diagnosed
	}
	became := "diagnosed"
	former := t.Status.Diagnosis
	switch {
	case former == nil:
	case former.By == me && former.Text == o.text:
		if len(status) == 0 {
			return "already diagnosed", nil
		}
	case former.By == me:
		became += ", in the place of your former diagnosis"
	case !o.replace:
		return "", fmt.Errorf("diagnose the ticket %s: %s, and nothing was changed; --replace puts yours in its place, and the ticket keeps both",
			t.Name, whose("has diagnosed it already", former.By, former.Time))
	default:
		became += ", in the place of " + terminal.Line(former.By) + "'s diagnosis"
	}
	if former == nil || former.By != me || former.Text != o.text {
		status["diagnosis"] = former.Replace(v1alpha1.Diagnosis{By: me, Time: v1alpha1.NewTime(time.Now()), Text: o.text})
	}
	if _, err := o.Patch(ctx, c, t, o.StatusOf(t, status), "status"); err != nil {
		return "", err
	}
	return became, nil
}
