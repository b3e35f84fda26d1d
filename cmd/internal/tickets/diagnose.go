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
	"k8s.io/apimachinery/pkg/util/duration"

	"invariant.dev/operator/api/v1alpha1"
	"invariant.dev/operator/cmd/internal/cli"
)

// maxDiagnosis is how many characters the API server takes.
const maxDiagnosis = 65536

type diagnoseOptions struct {
	change
	text, file string
	replace    bool
}

func newDiagnoseCommand(c cli.Common) *cobra.Command {
	o := &diagnoseOptions{change: newChange(c)}
	cmd := &cobra.Command{
		Use:   "diagnose ID... (--text TEXT | -f FILE)",
		Short: "Say what the matter is",
		Long: `Attach a diagnosis to tickets, under your name as the API server knows it: up to 65536 characters of text, such as
Markdown. A ticket that is open or acknowledged becomes Diagnosed; a resolved one takes a diagnosis too, and stays resolved.

Another's diagnosis is replaced only with --replace. Whatever is replaced, your own too, is kept: the last three, the first
8 KiB of each. The same text again is no error: "already diagnosed".`,
		Example: `  PROGRAM tickets diagnose tikv-prod-17 --text "The disk is full: a log was never rotated."

  # From a file, or from a program
  PROGRAM tickets diagnose tikv-prod-17 -f diagnosis.md
  investigate | PROGRAM tickets diagnose tikv-prod-17 -f -`,
		ValidArgsFunction: completeIDs(c),
		RunE:              func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	o.AddFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.text, "text", "", "The diagnosis.")
	f.StringVarP(&o.file, "filename", "f", "", "The file with the diagnosis; - for standard input.")
	f.BoolVar(&o.replace, "replace", false, "Replace somebody else's diagnosis.")
	cmd.MarkFlagsMutuallyExclusive("text", "filename")
	cmd.MarkFlagsOneRequired("text", "filename")
	return cmd
}

func (o *diagnoseOptions) run(cmd *cobra.Command, args []string) error {
	if o.file != "" {
		text, err := readText(o.file, o.In)
		if err != nil {
			return err
		}
		o.text = text
	}
	o.text = strings.TrimRight(o.text, " \t\r\n")
	switch length := utf8.RuneCountInString(o.text); {
	case o.text == "":
		return errors.New("the diagnosis is empty: say what the matter is")
	case !utf8.ValidString(o.text):
		return errors.New("the diagnosis is not text: write it in UTF-8")
	case length > maxDiagnosis:
		return fmt.Errorf("the diagnosis has %d characters: at most %d fit into a ticket; shorten it, or link to the rest", length, maxDiagnosis)
	}
	return o.Run(cmd, args, o.diagnose)
}

// readText reads a file, or standard input for -, up to a little more than fits.
func readText(file string, in io.Reader) (string, error) {
	if file != "-" {
		opened, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the diagnosis: %w", err)
		}
		defer func() { _ = opened.Close() }()
		in = opened
	}
	text, err := io.ReadAll(io.LimitReader(in, 16*maxDiagnosis))
	if err != nil {
		return "", fmt.Errorf("read the diagnosis: %w", err)
	}
	return string(text), nil
}

func (o *diagnoseOptions) diagnose(ctx context.Context, c *cli.Cluster, t *v1alpha1.Ticket) (became string, _ error) {
	by, err := c.User(ctx)
	if err != nil {
		return "", err
	}
	err = o.CompareAndSet(ctx, c, t, func(t *v1alpha1.Ticket) (change map[string]any, err error) {
		change, became, err = o.decide(t, by, time.Now())
		return change, err
	}, "status")
	return became, err
}

// decide is what to write on a ticket so that it has the diagnosis, if anything, and what has become of it then.
func (o *diagnoseOptions) decide(t *v1alpha1.Ticket, by string, now time.Time) (change map[string]any, became string, _ error) {
	before := t.Status.Diagnosis
	switch {
	case before != nil && before.By == by && before.Text == o.text:
		return nil, "already diagnosed", nil
	case before != nil && before.By != by && !o.replace:
		return nil, "", fmt.Errorf("diagnose the ticket %s: %s has diagnosed it%s; read it with show %s, and replace it with --replace",
			t.Name, before.By, since(before.Time, now), t.Name)
	}
	status := map[string]any{"diagnosis": before.Replace(v1alpha1.Diagnosis{By: by, Time: v1alpha1.NewTime(now), Text: o.text})}
	if t.IsOpen() {
		status["state"] = v1alpha1.Diagnosed
	}
	return map[string]any{"status": status}, "diagnosed", nil
}

// since says how long ago something was written, where that is known.
func since(when *v1alpha1.Time, now time.Time) string {
	if when == nil {
		return ""
	}
	return ", for " + duration.HumanDuration(now.Sub(when.Go()))
}
