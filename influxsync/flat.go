package influxsync

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// A flat answer (SELECT *::tag, *::field, without GROUP BY) has one series, in
// which the tags of a row stand beside its fields, and nothing says which column
// is which. It is asked for only of tables whose fields are no texts: then a text
// is a tag's value, and everything else a field's. A column that the table does
// not know, or one with values of the other sort, is errNotFlat, before a row is
// handed over that has it.

// flatSpan is below which length of time a flat answer costs the server less: it
// opens fewer cursors, and has to sort the rows of all series by time instead.
const flatSpan = 30 * time.Minute

// errNotFlat is a flat answer of which nothing can be known.
var errNotFlat = errors.New("the table has columns of which only a grouped answer says whether they are tags")

// rowQuery is a query for whole rows; with kinds it is a flat one.
type rowQuery struct {
	Query
	kinds columnKinds
}

// columnKinds says of each column of a table whether it is a tag.
type columnKinds map[string]bool

// flatKinds are the columns of a table, or nil where a flat answer could be
// misunderstood.
func flatKinds(t schema.Table) columnKinds {
	kinds := make(columnKinds)
	for _, tag := range t.Tags {
		kinds[tag] = true
	}
	for _, field := range t.Fields {
		if _, twice := kinds[field.Name]; twice || field.Type == schema.String {
			return nil
		}
		kinds[field.Name] = false
	}
	for name := range kinds {
		// A tag and a field of one name are answered as x and x_1.
		if base := strings.TrimRight(name, "0123456789"); base != name && strings.HasSuffix(base, "_") {
			return nil
		}
	}
	if len(t.Fields) == 0 {
		return nil
	}
	return kinds
}

// part divides the ordered columns of an answer into fields and tags.
func (k columnKinds) part(h *seriesHead) error {
	fields := h.order[:0]
	h.tagged = h.tagged[:0]
	for _, i := range h.order {
		isTag, known := k[h.columns[i].name]
		switch {
		case !known:
			return fmt.Errorf("column %q: %w", h.columns[i].name, errNotFlat)
		case isTag:
			h.tagged = append(h.tagged, i)
		default:
			fields = append(fields, i)
		}
	}
	h.order = fields
	return nil
}

// formerTags are those of the row before.
type formerTags struct {
	texts []byte
	tags  []tagPart
}

// tagsOfRow gives the series' head the tags of the row that was just read. Where
// they are others than those of the row before, it is the head of another series.
func (r *rowReader) tagsOfRow(h *seriesHead) error {
	for _, i := range h.order {
		if c := r.row.cells[i]; !c.null && c.kind == schema.String {
			return fmt.Errorf("a text in column %q: %w", h.columns[i].name, errNotFlat)
		}
	}
	h.former.texts, h.texts = h.texts, h.former.texts[:0]
	h.former.tags, h.tags = h.tags, h.former.tags[:0]
	for _, i := range h.tagged {
		c := r.row.cells[i]
		switch {
		case c.null || c.kind == schema.String && c.text.from == c.text.to:
			continue
		case c.kind != schema.String:
			return fmt.Errorf("no text in column %q: %w", h.columns[i].name, errNotFlat)
		}
		var tag tagPart
		h.texts, tag.key = appendStretch(h.texts, h.columns[i].name)
		h.texts, tag.value = appendStretch(h.texts, r.row.texts[c.text.from:c.text.to])
		h.tags = append(h.tags, tag)
	}
	if len(h.texts) > maxTags {
		return errManyTags
	}
	if h.begun && bytes.Equal(h.texts, h.former.texts) && slices.Equal(h.tags, h.former.tags) {
		return nil
	}
	if h.begun {
		r.heads++
		h.number = r.heads
	}
	h.checked, h.begun = nil, true
	r.begin(h)
	return nil
}

func appendStretch[T string | []byte](texts []byte, text T) ([]byte, stretch) {
	return append(texts, text...), stretch{len(texts), len(texts) + len(text)}
}
