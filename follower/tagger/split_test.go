package tagger

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplit(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		want       []string
		wantErr    bool
	}{
		{name: "nothing", text: " \n-- only a comment\n/* and another */ ;; "},
		{name: "two", text: "CREATE TABLE a(b);\nINSERT INTO a VALUES(1)", want: []string{"CREATE TABLE a(b)", "INSERT INTO a VALUES(1)"}},
		{name: "semicolon in literal", text: `INSERT INTO a VALUES('x;''y;');`, want: []string{`INSERT INTO a VALUES('x;''y;')`}},
		{name: "semicolon in names", text: "CREATE TABLE \"a;\"\"b\"(`c;`, [d;'])", want: []string{"CREATE TABLE \"a;\"\"b\"(`c;`, [d;'])"}},
		{name: "semicolon in comments", text: "INSERT -- ;\n INTO /* ; ' */ a VALUES(1);", want: []string{"INSERT -- ;\n INTO /* ; ' */ a VALUES(1)"}},
		{name: "dashes in literal", text: "INSERT INTO a VALUES('--');INSERT INTO a VALUES(2)", want: []string{"INSERT INTO a VALUES('--')", "INSERT INTO a VALUES(2)"}},
		{name: "open literal", text: "INSERT INTO a VALUES('x;", wantErr: true},
		{name: "open comment", text: "INSERT /* ;", wantErr: true},
		{name: "zero byte", text: "INSERT\x00;", wantErr: true},
		{name: "not UTF-8", text: "INSERT \xff;", wantErr: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Split(tc.text)
			if (err != nil) != tc.wantErr {
				t.Fatalf("error %v, want one: %t", err, tc.wantErr)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("statements (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAccepted(t *testing.T) {
	for statement, want := range map[string]bool{
		"create  table x(y)":                   true,
		"CREATE/**/TABLE x(y)":                 true,
		"-- note\nINSERT INTO x VALUES(1)":     true,
		"INSERT OR REPLACE INTO x VALUES(1)":   true,
		"CREATE UNIQUE INDEX i ON x(y)":        true,
		"CREATE INDEX i ON x(y)":               true,
		"ATTACH 'x' AS y":                      false,
		"PRAGMA writable_schema = 1":           false,
		"CREATE TRIGGER t AFTER INSERT ON x":   false,
		"CREATE VIRTUAL TABLE v USING fts5(x)": false,
		"CREATE TEMP TABLE x(y)":               false,
		"CREATE VIEW v AS SELECT 1":            false,
		"DELETE FROM x":                        false,
		"DROP TABLE x":                         false,
		"WITH a AS (SELECT 1) INSERT INTO x":   false,
		"\"CREATE\" TABLE x(y)":                false,
		"INSERTX INTO x VALUES(1)":             false,
		"":                                     false,
	} {
		if err := accepted(statement); (err == nil) != want || err != nil && !errors.Is(err, ErrStatement) {
			t.Errorf("accepted(%q) = %v, want accepted: %t", statement, err, want)
		}
	}
}

// FuzzSplit: whatever the text, the statements hold no blank one and cutting
// them again cuts nothing.
func FuzzSplit(f *testing.F) {
	f.Add("CREATE TABLE a(b);INSERT INTO a VALUES('x;''y')")
	f.Add("/* */ -- \n [a;b] `c;` \"d;\"\"\" ; 'e'")
	f.Add("'")
	f.Fuzz(func(t *testing.T, text string) {
		statements, err := Split(text)
		if err != nil {
			return
		}
		for _, s := range statements {
			if strings.Trim(s, blanks) == "" {
				t.Fatalf("blank statement of %q", text)
			}
			again, err := Split(s)
			if err != nil || len(again) != 1 || again[0] != s {
				t.Fatalf("split(%q) = %q, %v", s, again, err)
			}
		}
		joined, err := Split(strings.Join(statements, "\n;\n"))
		if err != nil || !cmp.Equal(statements, joined) {
			t.Fatalf("joined: %q, %v; want %q", joined, err, statements)
		}
	})
}
