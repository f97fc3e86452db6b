package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/plural"
	"github.com/accumulus-metering/accumulus/leader/books"
	"github.com/spf13/cobra"
)

// errDoesNotHold is a file of which something was changed, or is not what it says.
var errDoesNotHold = errors.New("the explanation does not hold")

func newExplain(a *app) *cobra.Command {
	var file string
	command := &cobra.Command{
		Use:   "explain LINE -o FILE",
		Short: "Write what a closed line comes from, as one signed file",
		Long: `Writes what a closed line of the books comes from: its days with their sums and
fingerprints, the pods that these are of (where the rows per pod are still there),
coverage, the versions of the price list with who recorded them, nodes, boxes and
meters, and the line's place in the chain. The file is gzip of JSON, signed by the
leader; "accumulus verify FILE" recomputes it without the leader.

A line is named as statements name it: CUSTOMER/NUMBER.`,
		Example: `  accumulus explain acme/3 -o acme-3.json.gz
  accumulus verify acme-3.json.gz`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := strings.LastIndexByte(args[0], '/')
			number, err := strconv.ParseInt(args[0][at+1:], 10, 64)
			if at < 1 || err != nil || number < 1 {
				return fmt.Errorf("line %q: name it as the statement does, CUSTOMER/NUMBER, such as acme/3", args[0])
			}
			c, err := a.patientClient()
			if err != nil {
				return err
			}
			text, err := c.ExplainLine(cmd.Context(), args[0][:at], number)
			if err != nil {
				return err
			}
			if err := writeWhole(file, text); err != nil {
				return err
			}
			a.printf("Written to %s. accumulus verify %s recomputes it.\n", file, file)
			return nil
		},
	}
	command.Flags().StringVarP(&file, "output", "o", "", "the file to write")
	_ = command.MarkFlagRequired("output") // the flag was just added
	return command
}

func newVerify(a *app) *cobra.Command {
	var key string
	command := &cobra.Command{
		Use:   "verify FILE",
		Short: "Recompute a file of explain, without the leader",
		Long: `Recomputes a file of "accumulus explain" with nothing but the file: its signature,
the line's place in the chain, its statement, the text of the price lists, the rating
of the days' sums, and the pods that these are of. It says what holds, and ends with
code 1 if something does not.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			text, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read explanation: %w", err)
			}
			trusted, err := publicKey(key)
			if err != nil {
				return err
			}
			e, findings, err := books.VerifyExplanation(text, trusted)
			if err != nil {
				return err
			}
			if a.output != asTable {
				err = a.answerOr(nil, map[string]any{"line": e.Line, "findings": findings})
			} else {
				err = a.showFindings(e, findings)
			}
			wrong := 0
			for _, f := range findings {
				if !f.Holds {
					wrong++
				}
			}
			if err == nil && wrong > 0 {
				err = fmt.Errorf("%w: %s", errDoesNotHold, plural.Of(wrong, "finding", "findings"))
			}
			return err
		},
	}
	command.AddCommand(newVerifyUsage(a))
	command.Flags().StringVar(&key, "public-key", "", "the leader's public key, as GET /api/v1/seed/key gives it (default: the one in the file)")
	a.answerFlags(command)
	return command
}

// publicKey reads a key in base64; "" is none.
func publicKey(text string) (ed25519.PublicKey, error) {
	if text == "" {
		return nil, nil
	}
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("--public-key: want 32 bytes in base64, as GET /api/v1/seed/key gives them")
	}
	return key, nil
}

func (a *app) showFindings(e books.Explanation, findings []books.Finding) error {
	a.printf("Line %s: %s, %s %s, %s %s, period %s\n\n", e.Line.ID, e.Line.Rate, e.Line.PricingQuantity, e.Line.Unit, e.Line.Cost, e.Line.Currency, e.Line.ChargePeriod)
	t := &table{columns: left("WHAT", "HOLDS", "DETAIL")}
	for _, f := range findings {
		holds := "yes"
		if !f.Holds {
			holds = "NO"
		}
		t.add(f.What, holds, f.Detail)
	}
	return t.write(a.out)
}
