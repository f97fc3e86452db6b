package credentials

import (
	"encoding/base64"
	"testing"
	"time"
)

// newJWT is a JWT with claims.
func newJWT(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

// TestLife reads when tokens end; what is none that ends is left alone.
func TestLife(t *testing.T) {
	of := `"kubernetes.io":{"namespace":"accumulus","serviceaccount":{"name":"accumulus-leader","uid":"u"}}`
	from := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		token   string
		ends    bool
		due     time.Time
		account string
	}{
		"ends":          {newJWT(`{"iat":1795694400,"exp":1795705200,` + of + `}`), true, from.Add(2 * time.Hour), "accumulus-leader"},
		"somebody's":    {newJWT(`{"iat":1795694400,"exp":1795705200,"sub":"x"}`), true, from.Add(2 * time.Hour), ""},
		"without end":   {newJWT(`{"kubernetes.io/serviceaccount/namespace":"accumulus"}`), false, time.Time{}, ""},
		"ends before":   {newJWT(`{"iat":1795705200,"exp":1795694400,` + of + `}`), false, time.Time{}, ""},
		"ends never":    {newJWT(`{"iat":1,"exp":1e300,` + of + `}`), false, time.Time{}, ""},
		"no claims":     {"a.b.c", false, time.Time{}, ""},
		"no JSON":       {"e30." + base64.RawURLEncoding.EncodeToString([]byte("x")) + ".c2ln", false, time.Time{}, ""},
		"another token": {"abcdef.0123456789abcdef", false, time.Time{}, ""},
		"none":          {"", false, time.Time{}, ""},
	} {
		life, ends := lifeOf(test.token)
		if ends != test.ends || ends && !life.Due().Equal(test.due) || life.account != test.account {
			t.Errorf("%s: %t, %+v, due %s", name, ends, life, life.Due())
		}
	}
}
