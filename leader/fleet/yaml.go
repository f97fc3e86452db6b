package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"
)

// Decode reads objects from YAML (or JSON, which is YAML) documents separated
// by lines "---". It is strict: unknown and doubled fields are errors. The
// error names the document, its object and the field, for every document that
// is wrong. It does not validate; see Validate.
func Decode(text []byte) ([]Object, error) {
	var objects []Object
	var errs []error
	for i, doc := range documents(text) {
		data, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			errs = append(errs, fmt.Errorf("document %d: %w", i+1, err))
			continue
		}
		if bytes.Equal(bytes.TrimSpace(data), []byte("null")) {
			continue
		}
		if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
			errs = append(errs, fmt.Errorf("document %d: is no object: want apiVersion, kind, metadata and spec", i+1))
			continue
		}
		var o Object
		if err := json.Unmarshal(data, &o); err != nil {
			errs = append(errs, fmt.Errorf("document %d: %w", i+1, err))
			continue
		}
		objects = append(objects, o)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return objects, nil
}

// documents cuts text at the lines that begin with "---".
func documents(text []byte) [][]byte {
	var docs [][]byte
	var doc []byte
	for line := range bytes.Lines(text) {
		if mark := strings.TrimRight(string(line), " \t\r\n"); mark == "---" || strings.HasPrefix(mark, "--- ") {
			docs = append(docs, doc)
			doc = append([]byte{}, strings.TrimPrefix(mark, "---")...)
			doc = append(doc, '\n')
			continue
		}
		doc = append(doc, line...)
	}
	return append(docs, doc)
}

// Encode writes objects as YAML documents that Decode reads back.
func Encode(objects []Object) ([]byte, error) {
	var out bytes.Buffer
	for i, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", o, err)
		}
		if i > 0 {
			out.WriteString("---\n")
		}
		out.Write(text)
	}
	return out.Bytes(), nil
}
