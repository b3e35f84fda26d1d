package main

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"invariant.dev/operator/hack/history"
)

// bases is where the CRDs are, from the root of the repository.
const bases = "config/crd/bases"

// clone is a clone of the repository, or a copy of its files without a history.
type clone struct{ history.Clone }

// version is a commit to compare with.
type version struct {
	// commit is empty where there is none to compare with.
	commit string
	// why names the commit and how it was chosen, or says why there is none.
	why string
}

// previous chooses what to compare with: from where it is given; else the last release, which is what clusters run; else where this
// branch left main; else the last commit whose CRDs are not those of the work tree.
func (c clone) previous(ctx context.Context, from string) (version, error) {
	if from != "" {
		commit, err := c.Commit(ctx, from)
		return version{commit, "the commit " + c.Describe(ctx, commit)}, err
	}
	if _, err := c.Commit(ctx, "HEAD"); err != nil {
		return version{why: "these files are no clone with a history"}, nil
	}
	if tag := c.Release(ctx, "HEAD"); tag != "" {
		return version{tag, "the last release, " + tag}, nil
	}
	for _, main := range []string{"origin/HEAD", "origin/main", "main"} {
		if commit, err := c.Git(ctx, "merge-base", "HEAD", main); err == nil && c.differs(ctx, commit) {
			return version{commit, "the commit " + c.Describe(ctx, commit) + ", where this branch left " + main}, nil
		}
	}
	log, err := c.Git(ctx, "log", "--format=%H", "--", bases)
	if err != nil {
		return version{}, err
	}
	for commit := range strings.FieldsSeq(log) {
		if c.differs(ctx, commit) {
			return version{commit, "the commit " + c.Describe(ctx, commit) + ", the last one with other CRDs, as there is no tag such as v1.2.3"}, nil
		}
	}
	if shallow, err := c.Git(ctx, "rev-parse", "--is-shallow-repository"); err == nil && shallow == "true" {
		return version{why: "this clone has not enough of the history; git fetch --unshallow --tags gets the rest"}, nil
	}
	return version{why: "these are the first"}, nil
}

// differs says whether the CRDs of the work tree are others than those of a commit.
func (c clone) differs(ctx context.Context, commit string) bool {
	_, err := c.Git(ctx, "diff", "--quiet", commit, "--", bases)
	return err != nil
}

// crdsOf are the CRDs of a commit, by file name. None is no error: there may have been none yet.
func (c clone) crdsOf(ctx context.Context, commit string) (map[string]*apiextensionsv1.CustomResourceDefinition, error) {
	names, err := c.Git(ctx, "ls-tree", "--name-only", commit, bases+"/")
	if err != nil {
		return nil, err
	}
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for name := range strings.FieldsSeq(names) {
		content, err := c.Git(ctx, "show", commit+":"+name)
		if err != nil {
			return nil, err
		}
		if crds[path.Base(name)], err = parseCRD(name, []byte(content)); err != nil {
			return nil, fmt.Errorf("%w, in %s", err, commit)
		}
	}
	return crds, nil
}

// crds are the CRDs of the work tree, by file name.
func (c clone) crds() (map[string]*apiextensionsv1.CustomResourceDefinition, error) {
	files, err := filepath.Glob(filepath.Join(c.Dir, bases, "*.yaml"))
	if err != nil {
		return nil, err
	}
	crds := map[string]*apiextensionsv1.CustomResourceDefinition{}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if crds[filepath.Base(file)], err = parseCRD(file, content); err != nil {
			return nil, err
		}
	}
	return crds, nil
}

func parseCRD(name string, content []byte) (*apiextensionsv1.CustomResourceDefinition, error) {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict(content, crd); err != nil {
		return nil, fmt.Errorf("read the CRD %s: %w", name, err)
	}
	return crd, nil
}
