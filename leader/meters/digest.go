package meters

import (
	"crypto/md5" // what old devices ask for; nothing is kept secret by it alone
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"strings"
)

// digest is the answer to a challenge of HTTP digest authentication (RFC 7616),
// as second-generation Shellys ask for, or an error where it is of another kind.
func digest(challenge, method, uri, user, password string) (string, error) {
	scheme, rest, _ := strings.Cut(challenge, " ")
	if !strings.EqualFold(scheme, "Digest") {
		return "", fmt.Errorf("the device asks for %s authentication", scheme)
	}
	fields := challengeFields(rest)
	algorithm := fields["algorithm"]
	var newHash func() hash.Hash
	switch strings.ToUpper(algorithm) {
	case "SHA-256":
		newHash = sha256.New
	case "", "MD5":
		newHash = md5.New
	default:
		return "", fmt.Errorf("the device asks for the digest %s", algorithm)
	}
	qop := fields["qop"]
	if fields["nonce"] == "" || qop != "" && !strings.Contains(","+strings.ReplaceAll(qop, " ", "")+",", ",auth,") {
		return "", errors.New("the device's challenge has no nonce, or asks for more than auth")
	}
	sum := func(text string) string {
		h := newHash()
		h.Write([]byte(text))
		return hex.EncodeToString(h.Sum(nil))
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("answer the device's challenge: %w", err)
	}
	client := hex.EncodeToString(random[:])
	secret, asked := sum(user+":"+fields["realm"]+":"+password), sum(method+":"+uri)
	response := sum(secret + ":" + fields["nonce"] + ":" + asked)
	if qop != "" {
		response = sum(strings.Join([]string{secret, fields["nonce"], "00000001", client, "auth", asked}, ":"))
	}
	answer := fmt.Sprintf(`Digest username=%q, realm=%q, nonce=%q, uri=%q, response=%q`, user, fields["realm"], fields["nonce"], uri, response)
	if algorithm != "" {
		answer += ", algorithm=" + algorithm
	}
	if qop != "" {
		answer += fmt.Sprintf(`, qop=auth, nc=00000001, cnonce=%q`, client)
	}
	if fields["opaque"] != "" {
		answer += fmt.Sprintf(`, opaque=%q`, fields["opaque"])
	}
	return answer, nil
}

// challengeFields reads key=value and key="value" between commas.
func challengeFields(text string) map[string]string {
	fields := make(map[string]string)
	for text != "" {
		key, rest, found := strings.Cut(text, "=")
		if !found {
			break
		}
		key = strings.ToLower(strings.Trim(key, " ,"))
		var value string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, rest, _ = strings.Cut(quoted, `"`)
			_, rest, _ = strings.Cut(rest, ",")
		} else {
			value, rest, _ = strings.Cut(rest, ",")
		}
		fields[key] = strings.TrimSpace(value)
		text = rest
	}
	return fields
}

// do sends a request with the meter's credentials: a bearer token, or a user with
// basic authentication, and with digest where the device asks for that.
func do(client *http.Client, request *http.Request, user, password string) (*http.Response, error) {
	if user != "" {
		request.SetBasicAuth(user, password)
	}
	response, err := client.Do(request)
	if err != nil || response.StatusCode != http.StatusUnauthorized || user == "" {
		return response, err
	}
	challenge := response.Header.Get("WWW-Authenticate")
	if !strings.HasPrefix(strings.ToLower(challenge), "digest ") {
		return response, nil
	}
	if err := response.Body.Close(); err != nil {
		return nil, err
	}
	answer, err := digest(challenge, request.Method, request.URL.RequestURI(), user, password)
	if err != nil {
		return nil, err
	}
	again := request.Clone(request.Context())
	again.Header.Set("Authorization", answer)
	return client.Do(again)
}
