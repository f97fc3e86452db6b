package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestAllocationTags: what is closed has a tag, and asked for with it is not sent
// again; what is asked for wrongly says where.
func TestAllocationTags(t *testing.T) {
	s, _ := newServer(t, false)
	get := func(path, tag string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.Header.Set("Authorization", "Bearer "+viewerToken)
		if tag != "" {
			r.Header.Set("If-None-Match", tag)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		return w
	}
	for _, path := range []string{"/allocation", "/allocation/compute", "/api/v1/allocation", "/api/v1/allocation/compute"} {
		first := get(path+"?window=yesterday&aggregate=namespace", "")
		var body struct {
			Code int                         `json:"code"`
			Data []map[string]map[string]any `json:"data"`
		}
		if err := json.Unmarshal(first.Body.Bytes(), &body); err != nil || first.Code != 200 || body.Code != 200 || body.Data[0]["shop"]["currency"] != "EUR" {
			t.Fatalf("%s: %d %v %s", path, first.Code, err, first.Body)
		}
		tag := first.Header().Get("ETag")
		if again := get(path+"?window=yesterday&aggregate=namespace", tag); tag == "" || again.Code != http.StatusNotModified || again.Body.Len() != 0 {
			t.Errorf("%s: with the tag %s: %d %s", path, tag, again.Code, again.Body)
		}
		if other := get(path+"?window=yesterday&aggregate=namespace", `"other"`); other.Code != 200 {
			t.Errorf("%s: with another tag: %d", path, other.Code)
		}
	}
	if csv := get("/allocation?window=yesterday&format=csv", ""); !strings.HasPrefix(csv.Body.String(), "Name,Start,End,Cluster") || !strings.HasPrefix(csv.Header().Get("Content-Type"), "text/csv") {
		t.Errorf("CSV: %v %s", csv.Header(), csv.Body)
	}
	for path, hint := range map[string]string{"/allocation": "it is required", `/allocation?window=7d&filter=namespace:shop`: "namespace: <-- here", "/allocation?window=7d&aggregate=service": "not recorded"} {
		if w := get(path, ""); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), strings.ReplaceAll(hint, "<", `\u003c`)) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
