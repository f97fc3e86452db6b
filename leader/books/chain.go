package books

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/accumulus-metering/accumulus/leader/registry"
)

// hashOf is a link's hash: SHA-256 of the hash before it, a line feed and its text.
func hashOf(previous, text string) string {
	sum := sha256.Sum256([]byte(previous + "\n" + text))
	return hex.EncodeToString(sum[:])
}

// message is what is signed for a link: no other signature of the leader's can be
// taken for one.
func message(customer string, seq int64, hash string) []byte {
	return fmt.Appendf(nil, "accumulus book line\n%s\n%d\n%s", customer, seq, hash)
}

// statementMessage is what is signed for a statement.
func statementMessage(customer string, number int64, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return fmt.Appendf(nil, "accumulus book statement\n%s\n%d\n%s", customer, number, hex.EncodeToString(sum[:]))
}

// link makes lines the next ones of a chain.
func (b *Books) link(lines []Line, seq int64, hash string, statement int64) ([]registry.BookLine, error) {
	links := make([]registry.BookLine, 0, len(lines))
	for i := range lines {
		seq++
		lines[i].ID = lineID(lines[i].Customer, seq)
		text, err := canonical(lines[i])
		if err != nil {
			return nil, fmt.Errorf("write line %s: %w", lines[i].ID, err)
		}
		next := hashOf(hash, text)
		links = append(links, registry.BookLine{Customer: lines[i].Customer, Seq: seq, Period: lines[i].Period, Statement: statement, Text: text,
			Previous: hash, Hash: next, Signature: b.signer.SignBook(message(lines[i].Customer, seq, next))})
		hash = next
	}
	return links, nil
}

func lineID(customer string, seq int64) string { return fmt.Sprintf("%s/%d", customer, seq) }

// BrokenError is the first line of a chain that is not what was closed.
type BrokenError struct {
	Line string // its id
	What string
}

func (e *BrokenError) Error() string { return fmt.Sprintf("line %s: %s", e.Line, e.What) }

// Chain is a customer's chain as it travels.
type Chain struct {
	Customer   string              `json:"customer"`
	PublicKey  []byte              `json:"publicKey"` // ed25519, the leader's
	Lines      []registry.BookLine `json:"lines"`
	Statements []IssuedStatement   `json:"statements"`
}

// IssuedStatement is a statement as it was issued.
type IssuedStatement struct {
	Number    int64  `json:"number"`
	Text      string `json:"text"`
	Signature []byte `json:"signature"`
}

// Verified is what was found of a whole chain.
type Verified struct {
	Customer   string `json:"customer"`
	Lines      int    `json:"lines"`
	Statements int    `json:"statements"`
	Head       string `json:"head"` // hash of the last line
	// Sealed are the statements that name what they rest on in the archive.
	Sealed []Statement `json:"-"`
}

// Verify recomputes a chain from its first line: sequence, hashes, signatures, that
// the statements name its lines, their sums and its heads, that each follows the one
// before, and that those of closed periods name what they rest on in the archive, whose
// list VerifySeal looks at. Error: *BrokenError of the first line or statement that is
// wrong.
func Verify(c Chain) (Verified, error) {
	found := Verified{Customer: c.Customer, Lines: len(c.Lines), Statements: len(c.Statements)}
	lines := make([]Line, len(c.Lines))
	for i, link := range c.Lines {
		var err error
		if lines[i], err = verifyLink(c, link, int64(i+1), found.Head); err != nil {
			return found, err
		}
		found.Head = link.Hash
	}
	seen := int64(0)
	var before *Statement
	for i, s := range c.Statements {
		read, what, last := verifyStatement(c, s, int64(i+1), seen, lines)
		if what == "" {
			previous := ""
			if i > 0 {
				previous = c.Statements[i-1].Text
			}
			what = verifyForm(read, before, previous)
		}
		if what != "" {
			return found, &BrokenError{Line: fmt.Sprintf("%s, statement %d", c.Customer, s.Number), What: what}
		}
		seen, before = last, &read
		if read.Archive != nil {
			found.Sealed = append(found.Sealed, read)
		}
	}
	if seen != int64(len(lines)) {
		return found, &BrokenError{Line: lineID(c.Customer, seen+1), What: "it stands on no statement: a statement was removed, or the line was added"}
	}
	return found, nil
}

func verifyLink(c Chain, link registry.BookLine, want int64, head string) (Line, error) {
	var line Line
	broken := func(format string, args ...any) (Line, error) {
		return line, &BrokenError{Line: lineID(c.Customer, want), What: fmt.Sprintf(format, args...)}
	}
	if link.Seq != want || link.Customer != c.Customer {
		return broken("it is missing: line %d of %s stands in its place", link.Seq, link.Customer)
	}
	if link.Previous != head {
		return broken("it does not follow the line before it: that one was changed, or lines between them were removed")
	}
	if link.Hash != hashOf(link.Previous, link.Text) {
		return broken("its text is not the one that was closed")
	}
	if len(c.PublicKey) != ed25519.PublicKeySize || !ed25519.Verify(c.PublicKey, message(c.Customer, link.Seq, link.Hash), link.Signature) {
		return broken("its signature is not one of this leader's key")
	}
	if err := json.Unmarshal([]byte(link.Text), &line); err != nil {
		return broken("its text cannot be read: %v", err)
	}
	if line.ID != lineID(c.Customer, want) || line.Customer != c.Customer || line.Period != link.Period {
		return broken("its text is that of %s in period %s", line.ID, line.Period)
	}
	if what := sharesDiffer(line); what != "" {
		return broken("%s", what)
	}
	return line, nil
}

// sharesDiffer says what of a line its shares do not add up to.
func sharesDiffer(l Line) string {
	if len(l.Shares) == 0 {
		return ""
	}
	cost, quantity := "0", int64(0)
	for _, s := range l.Shares {
		var err error
		if cost, err = plus(cost, s.Cost); err != nil {
			return err.Error()
		}
		quantity += s.Quantity
	}
	if rest, err := minus(cost, l.Cost); err != nil || !isZero(rest) || quantity != l.Quantity {
		return fmt.Sprintf("its shares come to %s and %d, the line to %s and %d", cost, quantity, l.Cost, l.Quantity)
	}
	return ""
}

// verifyStatement reads one, says what is wrong with it, and which line is its last.
func verifyStatement(c Chain, issued IssuedStatement, want, before int64, lines []Line) (s Statement, what string, last int64) {
	switch {
	case issued.Number != want:
		return s, fmt.Sprintf("statement %d is missing", want), 0
	case !ed25519.Verify(c.PublicKey, statementMessage(c.Customer, issued.Number, issued.Text), issued.Signature):
		return s, "its signature is not one of this leader's key, or its text was changed", 0
	}
	if err := json.Unmarshal([]byte(issued.Text), &s); err != nil {
		return s, fmt.Sprintf("it cannot be read: %v", err), 0
	}
	last = before + int64(s.LineCount)
	switch {
	case s.FirstLine != before+1 || last > int64(len(lines)):
		return s, fmt.Sprintf("it has the lines %d to %d, and the chain %d from %d on", s.FirstLine, last, int64(len(lines))-before, before+1), 0
	case s.LineCount > 0 && s.Head != c.Lines[last-1].Hash:
		return s, "it names another end of the chain", 0
	}
	sum, err := total(lines[before:last])
	if err != nil {
		return s, err.Error(), 0
	}
	if rest, err := minus(sum, s.Total); err != nil || !isZero(rest) {
		return s, fmt.Sprintf("its lines come to %s, its total is %s", sum, s.Total), 0
	}
	return s, "", last
}
