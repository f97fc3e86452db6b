package deploy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestKrewManifest: filled in as a release does it, the manifest is what krew reads.
func TestKrewManifest(t *testing.T) {
	text, err := os.ReadFile("krew/accumulus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	filled := regexp.MustCompile(`\{\{addURIAndSha "(.*)" \.TagName \}\}`).ReplaceAllString(string(text), "uri: $1\n      sha256: "+strings.Repeat("a", 64))
	filled = strings.ReplaceAll(filled, "{{ .TagName }}", "v1.2.3")
	var manifest struct {
		APIVersion, Kind string
		Metadata         struct{ Name string }
		Spec             struct {
			Version, ShortDescription, Description string
			Platforms                              []struct {
				URI, SHA256, Bin string
				Selector         struct{ MatchLabels map[string]string }
			}
		}
	}
	if err := yaml.Unmarshal([]byte(filled), &manifest); err != nil {
		t.Fatalf("%v\n%s", err, filled)
	}
	s := manifest.Spec
	if manifest.Kind != "Plugin" || manifest.Metadata.Name != "accumulus" || s.Version != "v1.2.3" || s.ShortDescription == "" || len(s.ShortDescription) > 60 || len(s.Platforms) != 2 {
		t.Errorf("manifest: %+v", manifest)
	}
	for _, p := range s.Platforms {
		if p.Bin != "kubectl-accumulus" || len(p.SHA256) != 64 || !strings.HasSuffix(p.URI, p.Selector.MatchLabels["os"]+"-"+p.Selector.MatchLabels["arch"]+".tar.gz") || strings.Contains(p.URI, "{{") {
			t.Errorf("platform: %+v", p)
		}
	}
}
