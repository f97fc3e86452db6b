package influxsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// refuser is a server that stores the lines it takes, in their order, and says
// what it was told to of the others.
type refuser struct {
	answer func(lines []string) (taken []string, err error)
	stored []string
	posts  int
}

func (r *refuser) post(_ context.Context, body []byte) error {
	r.posts++
	var lines []string
	for _, line := range splitLines(body) {
		lines = append(lines, string(line))
	}
	taken, err := r.answer(lines)
	r.stored = append(r.stored, taken...)
	return err
}

func lines(texts ...string) [][]byte {
	var list [][]byte
	for _, text := range texts {
		list = append(list, []byte(text+"\n"))
	}
	return list
}

// partial refuses the lines that hold "bad", as the engine does.
func partial(lines []string) (taken []string, err error) {
	dropped := 0
	for _, line := range lines {
		if strings.Contains(line, "bad") {
			dropped++
		} else {
			taken = append(taken, line)
		}
	}
	if dropped > 0 {
		err = &WriteError{Status: 400, Message: fmt.Sprintf("partial write: field type conflict: input field dropped=%d", dropped), Dropped: dropped}
	}
	return taken, err
}

func indexes(refused []refusedLine) (list []int) {
	for _, r := range refused {
		list = append(list, r.index)
	}
	return list
}

// TestWriteLinesFindsTheRefused: whatever is refused, the others are stored and
// acknowledged, and the last of two rows with one key stays the last.
func TestWriteLinesFindsTheRefused(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var texts []string
		var want []int
		last := make(map[string]string)
		for i := range random.IntN(40) {
			key := fmt.Sprintf("m,k=%d", random.IntN(10))
			if random.IntN(4) == 0 {
				key, want = "bad", append(want, i)
			}
			text := fmt.Sprintf("%s v=%di 1", key, i)
			texts = append(texts, text)
			if key != "bad" {
				last[key] = text + "\n"
			}
		}
		// The engine may answer before it has stored anything, and may give up
		// the good ones with the bad.
		server := &refuser{answer: func(lines []string) ([]string, error) {
			taken, err := partial(lines)
			if err != nil {
				taken = taken[:random.IntN(len(taken)+1)]
			}
			return taken, err
		}}
		refused, err := writeLines(t.Context(), lines(texts...), server.post)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, indexes(refused)); diff != "" {
			t.Fatalf("refused (-want +got):\n%s", diff)
		}
		got := make(map[string]string)
		for _, line := range server.stored {
			got[strings.Fields(line)[0]] = line
		}
		if diff := cmp.Diff(last, got); diff != "" && len(texts) > 0 {
			t.Fatalf("stored (-want +got):\n%s", diff)
		}
	}
}

func TestWriteLinesCost(t *testing.T) {
	var texts []string
	for i := range 1024 {
		texts = append(texts, fmt.Sprintf("m v=%d 1", i))
	}
	server := &refuser{answer: partial}
	if refused, err := writeLines(t.Context(), lines(texts...), server.post); err != nil || refused != nil || server.posts != 1 {
		t.Errorf("good lines: %v, %v in %d requests", refused, err, server.posts)
	}
	texts[700] = "bad v=1 1"
	server = &refuser{answer: partial}
	if refused, err := writeLines(t.Context(), lines(texts...), server.post); err != nil || len(refused) != 1 || server.posts > 21 {
		t.Errorf("one of 1024: %v, %v in %d requests, want at most 21", refused, err, server.posts)
	}
	for i := range texts {
		texts[i] = "bad v=1 1"
	}
	server = &refuser{answer: partial}
	if refused, err := writeLines(t.Context(), lines(texts...), server.post); err != nil || len(refused) != 1024 || server.posts != 1 {
		t.Errorf("all: %d, %v in %d requests, want 1024 in one", len(refused), err, server.posts)
	}
}

// TestWriteLinesOfAHostileServer: what it claims is believed only where a line
// was sent alone, or all of a request were counted.
func TestWriteLinesOfAHostileServer(t *testing.T) {
	say := func(status int, message string) func([]string) ([]string, error) {
		return func(lines []string) ([]string, error) {
			taken, err := partial(lines)
			if err != nil {
				err = &WriteError{Status: status, Message: message}
			}
			return taken, err
		}
	}
	all := func(err error) func([]string) ([]string, error) {
		return func([]string) ([]string, error) { return nil, err }
	}
	many := strings.Split(strings.Repeat("m v=1 1,", 200)+"m v=1 1", ",")
	for name, c := range map[string]struct {
		texts   []string
		answer  func([]string) ([]string, error)
		want    []int
		class   Class
		wantErr Class
		most    int // requests
	}{
		"dropped larger than the batch": {[]string{"m v=1 1", "bad", "m v=2 2", "m v=3 3"}, say(400, "partial write: field type conflict: x dropped=99"), []int{1}, TypeConflict, "", 9},
		"dropped negative":              {[]string{"m v=1 1", "bad"}, say(400, "partial write: field type conflict: x dropped=-2"), []int{1}, TypeConflict, "", 9},
		"dropped of another size":       {[]string{"m v=1 1", "bad", "m v=2 2"}, say(400, "partial write: field type conflict: x dropped=99999999999999999999"), []int{1}, TypeConflict, "", 9},
		"dropped that a row claims":     {[]string{"m v=1 1", "bad dropped=2"}, say(400, "unable to parse 'bad dropped=2'"), []int{1}, Malformed, "", 9},
		"parse errors":                  {[]string{"bad", "m v=2 2", "bad"}, say(400, "partial write: unable to parse 'bad': missing fields dropped=0"), []int{0, 2}, Malformed, "", 9},
		"too large together":            {[]string{"m v=1 1", "bad", "m v=2 2"}, say(413, "Request Entity Too Large"), []int{1}, TooLarge, "", 9},
		"a reason nobody knows":         {[]string{"m v=1 1", "bad", "m v=2 2"}, say(400, "computer says no"), []int{1}, Rejected, "", 9},
		"that it knows rows by":         {many, all(&WriteError{Status: 400, Message: fmt.Sprintf("partial write: new words dropped=%d", len(many))}), make([]int, len(many)), Rejected, "", 1},
		"refuses everything":            {many, all(&WriteError{Status: 400, Message: "no"}), nil, "", Rejected, 25},
		"refuses a single line":         {many[:1], all(&WriteError{Status: 400, Message: "no"}), nil, "", Rejected, 1},
		"refuses two":                   {many[:2], all(&WriteError{Status: 422, Message: "no"}), nil, "", Rejected, 3},
		"denies":                        {many, all(&WriteError{Status: 403, Message: "no"}), nil, "", Denied, 1},
		"has no database":               {many, all(&WriteError{Status: 404, Message: "database not found: x"}), nil, "", NoDatabase, 1},
		"is fenced":                     {many, all(&WriteError{Status: 409, Message: "x"}), nil, "", Fenced, 1},
		"is busy":                       {many, all(&WriteError{Status: 429, Message: "x"}), nil, "", Busy, 1},
		"deletes the shard":             {many, all(&WriteError{Status: 400, Message: fmt.Sprintf("partial write: shard 1 is pending deletion dropped=%d", len(many))}), nil, "", Busy, 1},
		"fails":                         {many, all(&StatusError{Status: 500, Message: "engine is closed"}), nil, "", Failing, 1},
		"is not there":                  {many, all(linkError{errors.New("refused")}), nil, "", NoAnswer, 1},
	} {
		t.Run(name, func(t *testing.T) {
			server := &refuser{answer: c.answer}
			refused, err := writeLines(t.Context(), lines(c.texts...), server.post)
			if got := ClassOf(err); got != c.wantErr || (err == nil) != (c.wantErr == "") {
				t.Errorf("error %v of class %q, want %q", err, got, c.wantErr)
			}
			if c.class == Rejected && len(c.want) > 3 {
				for i := range c.want {
					c.want[i] = i
				}
			}
			if diff := cmp.Diff(c.want, indexes(refused)); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
			for _, r := range refused {
				if r.class != c.class || r.reason == "" {
					t.Errorf("%+v, want class %s", r, c.class)
				}
			}
			if server.posts > c.most {
				t.Errorf("%d requests, want at most %d", server.posts, c.most)
			}
		})
	}
}

// TestWriteLinesGivesUpNothing: a server that fails half way leaves no line
// refused, and the next call does all of it again.
func TestWriteLinesGivesUpNothing(t *testing.T) {
	texts := []string{"bad", "m v=1 1", "m v=2 2", "bad", "m v=3 3"}
	for failure := 1; failure < 9; failure++ {
		server := &refuser{}
		server.answer = func(lines []string) ([]string, error) {
			if server.posts == failure {
				return nil, &StatusError{Status: 500, Message: "no space left on device"}
			}
			return partial(lines)
		}
		refused, err := writeLines(t.Context(), lines(texts...), server.post)
		if server.posts < failure {
			break // fewer requests than that
		}
		if ClassOf(err) != DiskFull || refused != nil {
			t.Errorf("failure of request %d: %v, %v", failure, refused, err)
		}
		refused, err = writeLines(t.Context(), lines(texts...), server.post)
		if diff := cmp.Diff([]int{0, 3}, indexes(refused)); diff != "" || err != nil {
			t.Errorf("after a failure of request %d: %v %s", failure, err, diff)
		}
	}
}

func TestSplitLines(t *testing.T) {
	var text []byte
	var want []string
	for i, awkward := range []string{"plain", "two\nlines", `a "quoted` + "\n" + `"text`, `back\slash` + "\n", "\n\n", `\`, `"`, "a=b,c=\"\nd", "#\n#"} {
		for _, p := range []Point{
			NewPoint("m", map[string]string{"t": `sp ac"e,=`}, map[string]Value{"f": Str(awkward), "g": Int(1), "h": Str(awkward)}, time.Unix(int64(i), 0)),
			NewPoint(`m "x"`, map[string]string{`"`: `"`}, map[string]Value{`"q`: Str(awkward)}, time.Unix(int64(i), 0)),
		} {
			line, err := appendLine(nil, p)
			if err != nil {
				t.Fatal(err)
			}
			text, want = append(text, line...), append(want, string(line))
		}
	}
	var got []string
	for _, line := range splitLines(text) {
		got = append(got, string(line))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if split := splitLines([]byte("a v=1\nb v=2")); len(split) != 2 || !bytes.Equal(split[1], []byte("b v=2")) {
		t.Errorf("without a newline at the end: %q", split)
	}
}

func TestOneRow(t *testing.T) {
	for line, fine := range map[string]bool{
		"m v=1i 5": true, "m v=1i 5\n": true, "m v=\"a\nb\" 5": true,
		"": false, "\n": false, "  ": false, "# m v=1i 5": false, " \t# x": false, "m v=1i 5\nm v=2i 5": false, "m v=1i 5\n\n": false,
	} {
		if _, err := oneRow(line); (err == nil) != fine {
			t.Errorf("%q: %v", line, err)
		}
	}
}
