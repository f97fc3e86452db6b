package follower

import (
	"net/http"
	"strings"

	"github.com/accumulus-metering/accumulus/internal/schema"
)

// influxUser is the one user that clients of InfluxDB, such as the customer's
// own Grafana, give a name for; his password is the viewer's token.
const influxUser = "viewer"

// credential is the token that a request carries, "" without one.
type credential struct {
	token    string
	ofViewer bool // it was given as the password of influxUser
}

// credentialOf reads what a client sends: Authorization, or in its place
// Accumulus-Authorization, as "Bearer TOKEN"; or as clients of InfluxDB 1.x do,
// as "Basic", as "Token viewer:TOKEN", or as u and p in the URL, in that order
// as InfluxDB reads them: the URL first.
func credentialOf(r *http.Request) credential {
	if r.URL.RawQuery != "" {
		if values := r.URL.Query(); values.Get("u") != "" || values.Get("p") != "" {
			return ofUser(values.Get("u"), values.Get("p"))
		}
	}
	given := r.Header.Get(schema.AuthorizationHeader)
	if given == "" {
		given = r.Header.Get("Authorization")
	}
	scheme, rest, _ := strings.Cut(given, " ")
	rest = strings.TrimSpace(rest)
	switch strings.ToLower(scheme) {
	case "bearer":
		return credential{token: rest}
	case "token":
		user, password, _ := strings.Cut(rest, ":")
		return ofUser(user, password)
	case "basic":
		basic := http.Request{Header: http.Header{"Authorization": {given}}}
		if user, password, ok := basic.BasicAuth(); ok {
			return ofUser(user, password)
		}
	}
	return credential{}
}

func ofUser(user, password string) credential {
	if user != influxUser {
		return credential{}
	}
	return credential{token: strings.TrimSpace(password), ofViewer: true}
}
