package tagger

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrStatement is a statement that a seed may not hold, or text that ends
// inside a literal or a comment.
var ErrStatement = errors.New("statement not accepted")

// Split cuts SQL text into its statements at the semicolons outside literals,
// quoted names and comments. Comments stay in their statement; a piece that
// holds only blanks and comments is no statement. The last one needs no
// semicolon.
func Split(text string) ([]string, error) {
	if !utf8.ValidString(text) || strings.ContainsRune(text, 0) {
		return nil, fmt.Errorf("text with a zero byte or not UTF-8: %w", ErrStatement)
	}
	var statements []string
	from, blank := 0, true
	for at := 0; at < len(text); {
		end, kind := token(text, at)
		switch kind {
		case unclosed:
			return nil, fmt.Errorf("literal or comment at byte %d has no end: %w", at, ErrStatement)
		case semicolon:
			if !blank {
				statements = append(statements, strings.Trim(text[from:at], blanks))
			}
			from, blank = end, true
		case word:
			blank = false
		}
		at = end
	}
	if !blank {
		statements = append(statements, strings.Trim(text[from:], blanks))
	}
	return statements, nil
}

// blanks are what SQLite takes for white space.
const blanks = " \t\n\r\f"

type tokenKind uint8

const (
	space tokenKind = iota // blanks and comments
	word                   // everything else
	semicolon
	unclosed
)

// token is the end and the kind of the piece of text that begins at at.
func token(text string, at int) (int, tokenKind) {
	rest := text[at:]
	switch c := rest[0]; {
	case c == ';':
		return at + 1, semicolon
	case strings.IndexByte(blanks, c) >= 0:
		return at + 1, space
	case strings.HasPrefix(rest, "--"):
		if n := strings.IndexByte(rest, '\n'); n >= 0 {
			return at + n + 1, space
		}
		return len(text), space
	case strings.HasPrefix(rest, "/*"):
		if n := strings.Index(rest[2:], "*/"); n >= 0 {
			return at + n + 4, space
		}
		return len(text), unclosed
	case c == '[':
		if n := strings.IndexByte(rest, ']'); n >= 0 {
			return at + n + 1, word
		}
		return len(text), unclosed
	case c == '\'' || c == '"' || c == '`':
		return quoted(text, at)
	}
	return at + 1, word
}

// quoted finds the end of a literal or name whose quote is doubled inside it.
func quoted(text string, at int) (int, tokenKind) {
	quote := text[at]
	for i := at + 1; i < len(text); i++ {
		if text[i] != quote {
			continue
		}
		if i+1 < len(text) && text[i+1] == quote {
			i++
			continue
		}
		return i + 1, word
	}
	return len(text), unclosed
}

// accepted says whether a statement is one of those that a seed consists of:
// CREATE TABLE, CREATE [UNIQUE] INDEX, INSERT.
func accepted(statement string) error {
	words := leading(statement, 3)
	is := func(want ...string) bool {
		if len(words) < len(want) {
			return false
		}
		for i, w := range want {
			if words[i] != w {
				return false
			}
		}
		return true
	}
	if is("INSERT") || is("CREATE", "TABLE") || is("CREATE", "INDEX") || is("CREATE", "UNIQUE", "INDEX") {
		return nil
	}
	return fmt.Errorf("%q: only CREATE TABLE, CREATE INDEX and INSERT: %w", strings.Join(words, " "), ErrStatement)
}

// leading is the first n keywords of a statement in upper case, without
// comments; it ends at the first thing that is no letter.
func leading(statement string, n int) []string {
	var words []string
	letter := func(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }
	for at := 0; at < len(statement) && len(words) < n; {
		end, kind := token(statement, at)
		if kind == space {
			at = end
			continue
		}
		from := at
		for at < len(statement) && letter(statement[at]) {
			at++
		}
		if at == from {
			break
		}
		words = append(words, strings.ToUpper(statement[from:at]))
	}
	return words
}
