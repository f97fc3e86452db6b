package settings

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type values struct {
	Name   string
	Every  time.Duration
	Labels []string
	Count  int
	Quiet  bool
}

func parse(t *testing.T, args ...string) (*values, *pflag.FlagSet) {
	t.Helper()
	v := &values{}
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	flags.StringVar(&v.Name, "some-name", "default", "")
	flags.DurationVar(&v.Every, "every", time.Second, "")
	flags.StringSliceVar(&v.Labels, "labels", nil, "")
	flags.IntVar(&v.Count, "count", 1, "")
	flags.BoolVar(&v.Quiet, "quiet", false, "")
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return v, flags
}

func environment(pairs map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { value, ok := pairs[name]; return value, ok }
}

func TestOrder(t *testing.T) {
	file := []byte("some-name: file\nevery: 3s\nlabels: [a, b/*]\ncount: 1000000\nquiet: true\n")
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		file []byte
		want values
	}{
		"defaults":    {want: values{Name: "default", Every: time.Second, Count: 1}},
		"file":        {file: file, want: values{"file", 3 * time.Second, []string{"a", "b/*"}, 1000000, true}},
		"environment": {file: file, env: map[string]string{"ACCUMULUS_SOME_NAME": "env", "ACCUMULUS_LABELS": "c,d"}, want: values{"env", 3 * time.Second, []string{"c", "d"}, 1000000, true}},
		"flag":        {args: []string{"--some-name=flag"}, file: file, env: map[string]string{"ACCUMULUS_SOME_NAME": "env"}, want: values{"flag", 3 * time.Second, []string{"a", "b/*"}, 1000000, true}},
	} {
		t.Run(name, func(t *testing.T) {
			got, flags := parse(t, tc.args...)
			if err := Fill(flags, environment(tc.env), tc.file); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, *got); diff != "" {
				t.Errorf("values (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAllThatIsWrong(t *testing.T) {
	_, flags := parse(t)
	err := Fill(flags, environment(map[string]string{"ACCUMULUS_EVERY": "soon"}), []byte("count: many\nlables: [a]\nquiet:\n  a: b\n"))
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 4 {
		t.Errorf("got %v, want four errors", err)
	}
}
