package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// document is docs/invariants.md, taken apart.
type document struct {
	text   string
	blocks []block
	tables []table
}

// block is what stands between fences.
type block struct {
	// section is the heading that it stands under, and language what follows its fence.
	section, language, text string
}

// table is a table under a heading, by the cells of its rows.
type table struct {
	section string
	rows    [][]string
}

func readDocument(t *testing.T) *document {
	t.Helper()
	content, err := os.ReadFile("../../docs/invariants.md")
	must(t, err)
	d := &document{text: string(content)}
	var section string
	var fenced *block
	inTable := false
	for line := range strings.Lines(d.text) {
		line = strings.TrimRight(line, "\n")
		language, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && fenced == nil:
			fenced = &block{section: section, language: language}
		case fence:
			d.blocks = append(d.blocks, *fenced)
			fenced = nil
		case fenced != nil:
			fenced.text += line + "\n"
		case strings.HasPrefix(line, "#"):
			section = strings.TrimLeft(line, "# ")
		case strings.HasPrefix(line, "|"):
			if !inTable {
				d.tables = append(d.tables, table{section: section})
			}
			last := &d.tables[len(d.tables)-1]
			last.rows = append(last.rows, cells(line))
		}
		inTable = fenced == nil && strings.HasPrefix(line, "|")
	}
	if fenced != nil {
		t.Fatalf("the fence in %q does not end", fenced.section)
	}
	return d
}

// cells are those of a row. \| is a | within a cell.
func cells(row string) []string {
	const bar = "\x00"
	row = strings.Trim(strings.ReplaceAll(row, `\|`, bar), "|")
	var cells []string
	for cell := range strings.SplitSeq(row, "|") {
		cells = append(cells, strings.TrimSpace(strings.ReplaceAll(cell, bar, "|")))
	}
	return cells
}

// in are the blocks of a language under a heading.
func (d *document) in(t *testing.T, section, language string) []block {
	t.Helper()
	var found []block
	for _, b := range d.blocks {
		if b.section == section && b.language == language {
			found = append(found, b)
		}
	}
	if len(found) == 0 {
		t.Fatalf("under %q there is no %s", section, language)
	}
	return found
}

// rows are those of the only table under a heading with so many columns, without its head.
func (d *document) rows(t *testing.T, section string, columns int) [][]string {
	t.Helper()
	for _, table := range d.tables {
		if table.section != section {
			continue
		}
		for _, row := range table.rows {
			if len(row) != columns {
				t.Fatalf("a row under %q has %d cells: %q", section, len(row), row)
			}
		}
		return table.rows[2:]
	}
	t.Fatalf("under %q there is no table", section)
	return nil
}

// commands are what one is to type, with what is printed then.
func (b block) commands() (commands, printed []string) {
	for line := range strings.Lines(b.text) {
		if command, typed := strings.CutPrefix(line, "$ "); typed {
			commands, printed = append(commands, strings.TrimSpace(command)), append(printed, "")
			continue
		}
		printed[len(printed)-1] += line
	}
	return commands, printed
}

var codeSpan = regexp.MustCompile("^`([^`]*)`")

// code is the code that a cell begins with.
func code(t *testing.T, cell string) string {
	t.Helper()
	span := codeSpan.FindStringSubmatch(cell)
	if span == nil {
		t.Fatalf("the cell begins with no code: %s", cell)
	}
	return span[1]
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
var link = regexp.MustCompile(`\]\(([a-zA-Z./-]*\.md)?(?:#([^)]*))?\)`)

func TestLinksOfTheGuideLeadSomewhere(t *testing.T) {
	d := readDocument(t)
	links := link.FindAllStringSubmatch(d.text, -1)
	if len(links) == 0 {
		t.Fatal("there are no links")
	}
	for _, l := range links {
		target := d.text
		if l[1] != "" {
			content, err := os.ReadFile("../../docs/" + l[1])
			must(t, err)
			target = string(content)
		}
		if l[2] == "" {
			continue
		}
		found := false
		for _, h := range heading.FindAllStringSubmatch(target, -1) {
			anchor := strings.ReplaceAll(strings.ToLower(strings.NewReplacer("'", "", ",", "", "`", "").Replace(h[1])), " ", "-")
			found = found || anchor == l[2]
		}
		if !found {
			t.Errorf("%s leads nowhere", l[0])
		}
	}
}

var reasons = regexp.MustCompile(`Reason = "([A-Za-z]+)"`)

func TestEveryReasonIsExplained(t *testing.T) {
	code, err := os.ReadFile("../../controllers/verdict/verdict.go")
	must(t, err)
	howItWorks, err := os.ReadFile("../../docs/how-it-works.md")
	must(t, err)
	named := reasons.FindAllStringSubmatch(string(code), -1)
	if len(named) == 0 {
		t.Fatal("there are no reasons")
	}
	for _, reason := range named {
		if !strings.Contains(string(howItWorks), "`"+reason[1]+"` |") && !strings.Contains(string(howItWorks), "`"+reason[1]+"`,") {
			t.Errorf("docs/how-it-works.md does not say when the reason is %s", reason[1])
		}
	}
}
