package deploy_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/accumulus-metering/accumulus/dashboards"
	"github.com/accumulus-metering/accumulus/leader/fleet"
	"github.com/accumulus-metering/accumulus/leader/identity"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/kubernetes/scheme"
	psapi "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"
)

// strict refuses fields that the API does not have.
var strict = serializer.NewCodecFactory(scheme.Scheme, serializer.EnableStrict).UniversalDeserializer()

// monitor is the one kind that is not of Kubernetes itself.
type monitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector          metav1.LabelSelector `json:"selector"`
		NamespaceSelector struct {
			MatchNames []string `json:"matchNames"`
		} `json:"namespaceSelector"`
		Endpoints []struct {
			Port          string         `json:"port"`
			Scheme        string         `json:"scheme"`
			Path          string         `json:"path"`
			Interval      string         `json:"interval"`
			ScrapeTimeout string         `json:"scrapeTimeout"`
			TLSConfig     map[string]any `json:"tlsConfig"`
			Authorization map[string]any `json:"authorization"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// documents are the YAML documents of a text.
func documents(text string) []string {
	var all []string
	for _, part := range strings.Split("\n"+text, "\n---\n") {
		var any map[string]any
		if yaml.Unmarshal([]byte(part), &any) == nil && len(any) > 0 {
			all = append(all, part)
		}
	}
	return all
}

// objects decodes what a release consists of, strictly.
func objects(t *testing.T, r release) (all []runtime.Object, monitors []monitor) {
	t.Helper()
	files, err := render(t, r)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for _, document := range documents(text) {
			if strings.Contains(document, "kind: ServiceMonitor") {
				var m monitor
				if err := yaml.UnmarshalStrict([]byte(document), &m); err != nil {
					t.Errorf("%s %s: %v", r.name, name, err)
				}
				monitors = append(monitors, m)
				continue
			}
			object, _, err := strict.Decode([]byte(document), nil, nil)
			if err != nil {
				t.Errorf("%s %s: %v\n%s", r.name, name, err, document)
				continue
			}
			all = append(all, object)
		}
	}
	return all, monitors
}

func each[T runtime.Object](all []runtime.Object) []T {
	var found []T
	for _, object := range all {
		if one, ok := object.(T); ok {
			found = append(found, one)
		}
	}
	return found
}

// TestObjectsFitTogether: selectors find the pods, ports have names that are
// there, and every volume that is mounted exists and every one that exists is
// mounted.
func TestObjectsFitTogether(t *testing.T) {
	for _, r := range releases(t) {
		all, monitors := objects(t, r)
		deployments, services := each[*appsv1.Deployment](all), each[*corev1.Service](all)
		want := 1
		if r.name == "leader-grafana" {
			want = 2
		}
		if len(deployments) != want || len(services) != want {
			t.Fatalf("%s: %d Deployments, %d Services, want %d", r.name, len(deployments), len(services), want)
		}
		for _, deployment := range deployments {
			fit(t, r, deployment, services, monitors)
		}
	}
}

// fit checks one Deployment; its Service has its name, and selects it alone.
func fit(t *testing.T, r release, deployment *appsv1.Deployment, services []*corev1.Service, monitors []monitor) {
	t.Helper()
	for _, service := range services {
		if service.Name != deployment.Name {
			if labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(deployment.Spec.Template.Labels)) {
				t.Errorf("%s: Service %s selects the pods of %s", r.name, service.Name, deployment.Name)
			}
			continue
		}
		pod := deployment.Spec.Template
		container := pod.Spec.Containers[0]
		for key, value := range service.Spec.Selector {
			if pod.Labels[key] != value || deployment.Spec.Selector.MatchLabels[key] != value {
				t.Errorf("%s: the Service selects %s=%s", r.name, key, value)
			}
		}
		if *deployment.Spec.Replicas != 1 || deployment.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
			t.Errorf("%s: two may run at once", r.name)
		}
		if service.Spec.Ports[0].TargetPort.StrVal != container.Ports[0].Name {
			t.Errorf("%s: the Service's port leads to %s", r.name, service.Spec.Ports[0].TargetPort.StrVal)
		}
		for _, m := range monitors {
			if container.Name != "grafana" && m.Spec.Endpoints[0].Port != service.Spec.Ports[0].Name {
				t.Errorf("%s: the ServiceMonitor reads port %s", r.name, m.Spec.Endpoints[0].Port)
			}
		}
		var volumes, mounts []string
		for _, v := range pod.Spec.Volumes {
			volumes = append(volumes, v.Name)
		}
		for _, m := range container.VolumeMounts {
			mounts = append(mounts, m.Name)
		}
		slices.Sort(volumes)
		slices.Sort(mounts)
		if diff := cmp.Diff(volumes, mounts); diff != "" {
			t.Errorf("%s: volumes and mounts differ:\n%s", r.name, diff)
		}
		checkCredentials(t, r, pod.Spec)
	}
}

// checkCredentials: no pod has the API's credentials by default, those that it
// has are short-lived, and no secret stands in arguments or environment.
func checkCredentials(t *testing.T, r release, pod corev1.PodSpec) {
	t.Helper()
	if pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken {
		t.Errorf("%s: the service account's token is mounted by default", r.name)
	}
	wants := pod.Containers[0].Name != "grafana" && (r.chart == "follower" || r.name == "leader-local" || r.name == "leader-bare" || r.name == "leader-access")
	has := slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool {
		return v.Projected != nil && slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
			return s.ServiceAccountToken != nil && *s.ServiceAccountToken.ExpirationSeconds <= 7200
		})
	})
	if has != wants {
		t.Errorf("%s: the pod has a projected token: %t, want %t", r.name, has, wants)
	}
	for _, variable := range pod.Containers[0].Env {
		if variable.ValueFrom != nil && variable.ValueFrom.SecretKeyRef != nil {
			t.Errorf("%s: %s brings a secret into the environment", r.name, variable.Name)
		}
	}
}

// TestPodsAreRestricted asks the admission's own checks.
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := psapi.LevelVersion{Level: psapi.LevelRestricted, Version: psapi.LatestVersion()}
	refused := func(pod corev1.PodTemplateSpec) string {
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
		if result.Allowed {
			return ""
		}
		return result.ForbiddenDetail()
	}
	for _, r := range releases(t) {
		all, _ := objects(t, r)
		for _, deployment := range each[*appsv1.Deployment](all) {
			pod := deployment.Spec.Template
			if why := refused(pod); why != "" {
				t.Errorf("%s: %s: %s", r.name, deployment.Name, why)
			}
			security := pod.Spec.Containers[0].SecurityContext
			if security.ReadOnlyRootFilesystem == nil || !*security.ReadOnlyRootFilesystem {
				t.Errorf("%s: %s: the root file system can be written", r.name, deployment.Name)
			}
			security.AllowPrivilegeEscalation = nil // the control
			if refused(pod) == "" {
				t.Errorf("%s: %s: privileges may be gained, and nobody sees it", r.name, deployment.Name)
			}
		}
	}
}

func TestSchemaRefusesWrongValues(t *testing.T) {
	for _, tc := range []struct{ chart, values, want string }{
		{"follower", "", "name this cluster"},
		{"follower", "cluster: ../x", "cluster"},
		{"follower", "cluster: a\nclustre: b", "clustre"},
		{"follower", "cluster: a\nimage: {tga: v1}", "tga"},
		{"follower", "cluster: a\nimage: {pullPolicy: Sometimes}", "pullPolicy"},
		{"follower", "cluster: a\nimage: {digest: abc}", "digest"},
		{"follower", "cluster: a\nscrapeInterval: 15", "scrapeInterval"},
		{"follower", "cluster: a\npersistence: {enabled: \"yes\"}", "enabled"},
		{"follower", "cluster: a\npersistence: {accessModes: [ReadOnlyMany]}", "accessModes"},
		{"follower", "cluster: a\nseed: {publicKey: abc}", "publicKey"},
		{"follower", "cluster: a\ntokens: {existingSecret: \"\"}", "existingSecret"},
		{"follower", "cluster: a\ntokens: {leader: secret}", "leader"},
		{"follower", "cluster: a\ninfluxdb: {url: influxdb.example.net}", "url"},
		{"follower", "cluster: a\ncontainerPort: 443", "containerPort"},
		{"leader", "follower: {local: true, cluster: \"\"}", "cluster"},
		{"leader", "follower: {image: x}", "image"},
		{"leader", "initial: {priceList: {rates: [{resource: gold, price: \"1\"}]}}", "resource"},
		{"leader", "initial: {priceList: {rates: [{resource: energy, price: 0.31}]}}", "price"},
		{"leader", "auditSchedule: every day", "auditSchedule"},
		{"leader", "tokens: {generate: false}", "existingSecret"},
		{"leader", "ingress: {enabled: true}", "name a host"},
		{"leader", "ingress: {enabled: true, hosts: [a.example.net]}", "hosts"},
		{"leader", "grafana: {datasource: {enabled: true}}", "influxdb.url"},
		{"leader", "grafana: {server: {enabled: true}}", "influxdb.url"},
		{"leader", "influxdb: {url: http://i:8086}\ngrafana: {server: {enabled: true, admin: {generate: false}}}", "existingSecret"},
		{"leader", "influxdb: {url: http://i:8086}\ngrafana: {datasource: {user: u}, server: {enabled: true}}", "datasourcePassword"},
		{"leader", "grafana: {server: {image: {tga: v1}}}", "tga"},
		{"leader", "access: {oidc: [{issuer: \"http://id\", audience: a, roles: [{claim: c, role: viewer}]}]}", "issuer"},
		{"leader", "access: {kubernetes: {roles: [{user: u, role: admin}]}}", "role"},
		{"leader", "replicas: 2", "replicas"},
	} {
		_, err := render(t, release{name: "wrong", chart: tc.chart, values: tc.values})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s with %q: %v, want an error about %s", tc.chart, tc.values, err, tc.want)
		}
	}
}

// TestInitialObjectsAreAFleetFile: as the leader reads it at its first start.
func TestInitialObjectsAreAFleetFile(t *testing.T) {
	for _, r := range releases(t) {
		all, _ := objects(t, r)
		for _, m := range each[*corev1.ConfigMap](all) {
			text, ok := m.Data["fleet.yaml"]
			if !ok {
				continue
			}
			decoded, err := fleet.Decode([]byte(text))
			if err != nil || len(decoded) == 0 {
				t.Errorf("%s: %d objects, %v:\n%s", r.name, len(decoded), err, text)
			}
			if err := fleet.Validate(decoded, nil); err != nil {
				t.Errorf("%s: %v", r.name, err)
			}
		}
	}
}

// TestAccessFilesAreRead: as the leader reads them at its start.
func TestAccessFilesAreRead(t *testing.T) {
	given, err := os.ReadFile("testdata/leader-access.values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	all, _ := objects(t, release{name: "access", chart: "leader", values: string(given)})
	found := 0
	for _, config := range each[*corev1.ConfigMap](all) {
		text, ok := config.Data["access.yaml"]
		if !ok {
			continue
		}
		path := filepath.Join(t.TempDir(), "access.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		read, err := identity.ReadConfig(path)
		if err != nil || len(read.OIDC) != 1 || read.Kubernetes == nil || len(read.Kubernetes.Roles) != 2 || read.Limits.Principal != 50 {
			t.Errorf("%+v, %v", read, err)
		}
		found++
	}
	if found != 1 {
		t.Errorf("%d access files", found)
	}
}

// TestFollowerValuesAreOfItsChart: what the leader's chart hands on is what the
// follower's takes.
func TestFollowerValuesAreOfItsChart(t *testing.T) {
	const given = "follower: {values: {image: {registry: registry.example.net}, scrapeInterval: 30s}}"
	all, _ := objects(t, release{name: "values", chart: "leader", values: given})
	for _, m := range each[*corev1.ConfigMap](all) {
		if text, ok := m.Data["values.yaml"]; ok {
			followers, _ := objects(t, release{name: "handed on", chart: "follower", values: "cluster: a\n" + text})
			container := each[*appsv1.Deployment](followers)[0].Spec.Template.Spec.Containers[0]
			if !strings.HasPrefix(container.Image, "registry.example.net/") || !slices.Contains(container.Args, "--scrape-interval=30s") {
				t.Errorf("%s %v", container.Image, container.Args)
			}
			return
		}
	}
	t.Error("no values are handed on")
}

// TestBoardsAreThoseOfDashboards: the chart carries copies, since Helm reads no
// file outside a chart.
func TestBoardsAreThoseOfDashboards(t *testing.T) {
	read := func(fsys fs.FS) map[string]string {
		names, err := fs.Glob(fsys, "*.json")
		if err != nil || len(names) == 0 {
			t.Fatal(names, err)
		}
		boards := make(map[string]string)
		for _, name := range names {
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				t.Fatal(err)
			}
			boards[name] = string(text)
		}
		return boards
	}
	want, got := read(dashboards.FS), read(os.DirFS("charts/leader/dashboards"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("run go generate ./deploy:\n%s", diff)
	}
	all, _ := objects(t, release{name: "boards", chart: "leader", values: "grafana: {dashboards: {enabled: true}}"})
	shown := make(map[string]string)
	for _, m := range each[*corev1.ConfigMap](all) {
		if m.Labels["grafana_dashboard"] == "1" {
			for name, text := range m.Data {
				shown[name] = text + "\n"
			}
		}
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("what Grafana's sidecar finds differs:\n%s", diff)
	}
}

// TestGrafanaIsProvisioned: the Grafana of the release finds a data source and the
// boards in files that it can read, and no password stands in a ConfigMap.
func TestGrafanaIsProvisioned(t *testing.T) {
	const given = "influxdb: {url: http://influx:8086}\ngrafana: {datasource: {user: reader}, server: {enabled: true, datasourcePassword: {existingSecret: s}}}"
	all, _ := objects(t, release{name: "grafana", chart: "leader", values: given})
	maps := make(map[string]map[string]string)
	for _, m := range each[*corev1.ConfigMap](all) {
		maps[m.Name] = m.Data
	}
	settings := maps["accumulus-grafana"]
	var source struct {
		Datasources []struct {
			UID, Type, URL, User string
			SecureJSONData       map[string]string
		}
	}
	if err := yaml.Unmarshal([]byte(settings["datasource.yaml"]), &source); err != nil || len(source.Datasources) != 1 {
		t.Fatalf("%v in\n%s", err, settings["datasource.yaml"])
	}
	if got := source.Datasources[0]; got.Type != "influxdb" || got.URL != "http://influx:8086" || got.User != "reader" || got.SecureJSONData["password"] != "$__file{/secrets/datasource/password}" {
		t.Errorf("data source %+v", got)
	}
	var provider struct {
		Providers []struct{ Options struct{ Path string } }
	}
	if err := yaml.Unmarshal([]byte(settings["boards.yaml"]), &provider); err != nil || len(provider.Providers) != 1 {
		t.Fatalf("%v in\n%s", err, settings["boards.yaml"])
	}
	names, err := fs.Glob(dashboards.FS, "*.json")
	if err != nil || len(names) == 0 || len(maps["accumulus-grafana-boards"]) != len(names) {
		t.Errorf("%d boards of %d, %v", len(maps["accumulus-grafana-boards"]), len(names), err)
	}
	if !slices.ContainsFunc(names, func(name string) bool {
		return strings.Contains(settings["grafana.ini"], "default_home_dashboard_path = /boards/"+name+"\n")
	}) {
		t.Errorf("the board that is shown first is none of %v", names)
	}
	mounts := make(map[string]string)
	for _, deployment := range each[*appsv1.Deployment](all) {
		for _, m := range deployment.Spec.Template.Spec.Containers[0].VolumeMounts {
			if deployment.Name == "accumulus-grafana" {
				mounts[m.MountPath] = m.Name
			}
		}
	}
	for _, path := range []string{provider.Providers[0].Options.Path, "/etc/grafana", "/secrets/admin", "/secrets/datasource"} {
		if mounts[path] == "" {
			t.Errorf("nothing is mounted at %s: %v", path, mounts)
		}
	}
	if !strings.Contains(settings["grafana.ini"], "admin_password = $__file{/secrets/admin/password}") {
		t.Errorf("grafana.ini:\n%s", settings["grafana.ini"])
	}
}

// TestReadmesTellEveryValue: the table of a chart's README has a row for each
// value, and none for a value that is not there.
func TestReadmesTellEveryValue(t *testing.T) {
	for _, name := range []string{"follower", "leader"} {
		text, err := os.ReadFile(filepath.Join("charts", name, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for line := range bytes.Lines(text) {
			cells := strings.Split(string(line), "|")
			if len(cells) < 4 || !strings.HasPrefix(strings.TrimSpace(cells[1]), "`") {
				continue
			}
			for value := range strings.SplitSeq(cells[1], ",") {
				told = append(told, strings.Trim(strings.TrimSpace(value), "`"))
			}
		}
		// covers is a row for the value, or for all below one of its parents.
		covers := func(row, value string) bool {
			return row == value || strings.HasSuffix(row, ".*") && strings.HasPrefix(value, strings.TrimSuffix(row, "*"))
		}
		values := leaves("", load(t, name).Values)
		for _, value := range values {
			if !slices.ContainsFunc(told, func(row string) bool { return covers(row, value) }) {
				t.Errorf("%s: the README does not tell of %s", name, value)
			}
		}
		for _, row := range told {
			if !slices.ContainsFunc(values, func(value string) bool { return covers(row, value) }) {
				t.Errorf("%s: the README tells of %s, which is no value", name, row)
			}
		}
	}
}

// leaves are the names of the values that are no maps.
func leaves(prefix string, value any) []string {
	tree, ok := value.(map[string]any)
	if !ok || len(tree) == 0 {
		return []string{prefix}
	}
	var all []string
	for name, sub := range tree {
		all = append(all, leaves(strings.TrimPrefix(fmt.Sprintf("%s.%s", prefix, name), "."), sub)...)
	}
	return all
}
