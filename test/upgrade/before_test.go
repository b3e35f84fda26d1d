package upgrade

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"invariant.dev/operator/hack/history"
)

func TestTheVersionBeforeIsTheLastReleaseElseTheCommitBeforeElseThisOne(t *testing.T) {
	// A clone further up is none of this test's business.
	t.Setenv("GIT_CEILING_DIRECTORIES", os.TempDir())
	origin, shallow := t.TempDir(), filepath.Join(t.TempDir(), "clone")
	for _, command := range []string{
		"git init --quiet --initial-branch=main",
		"git commit --quiet --allow-empty -m first",
		"git commit --quiet --allow-empty -m second",
		"git tag v0.1.0",
		"git commit --quiet --allow-empty -m third",
		"git commit --quiet --allow-empty -m fourth",
		"git clone --quiet --depth=1 --no-tags file://" + origin + " " + shallow,
	} {
		words := strings.Fields(command)
		cmd := exec.CommandContext(t.Context(), words[0], append([]string{"-c", "user.name=ana", "-c", "user.email=ana@example.org"}, words[1:]...)...)
		cmd.Dir = origin
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	wants := func(root, asked, want string) {
		t.Helper()
		if _, name, err := before(t.Context(), root, asked, t.TempDir()); err != nil || !strings.Contains(name, want) {
			t.Errorf("it is %q (%v), want: %s", name, err, want)
		}
	}
	wants(origin, "", "(second)")
	wants(origin, "HEAD~3", "(first)")
	_, err := history.Clone{Dir: origin}.Git(t.Context(), "tag", "--delete", "v0.1.0")
	must(t, err)
	wants(origin, "", "(third)")
	wants(shallow, "", "this version itself")
	wants(t.TempDir(), "", "this version itself")
	if _, _, err := before(t.Context(), origin, "nix", t.TempDir()); err == nil || !strings.Contains(err.Error(), "-from: there is no commit or tag nix") {
		t.Errorf("an unknown name gives %v", err)
	}
}
