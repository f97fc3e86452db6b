package credentials

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// ErrNotRenewable is a token that ends and that its holder cannot renew.
var ErrNotRenewable = errors.New("it is not the token of a service account")

// Life is how long the token of a kubeconfig is good, by what stands in it.
type Life struct {
	From, Until        time.Time
	namespace, account string // whose it is; "" where it is no service account's
}

// Due is when it is renewed: at two thirds of its life.
func (l Life) Due() time.Time { return l.From.Add(l.Until.Sub(l.From) * 2 / 3) }

// lifeOf reads a token, if it is one that ends.
func lifeOf(token string) (Life, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return Life{}, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return Life{}, false
	}
	var claims struct {
		From       float64 `json:"iat"` // s since 1970, RFC 7519
		Until      float64 `json:"exp"`
		Kubernetes struct {
			Namespace string `json:"namespace"`
			Account   struct {
				Name string `json:"name"`
			} `json:"serviceaccount"`
		} `json:"kubernetes.io"`
	}
	if err := json.Unmarshal(text, &claims); err != nil || claims.Until <= claims.From || claims.Until > 1e12 {
		return Life{}, false
	}
	return Life{From: time.Unix(int64(claims.From), 0).UTC(), Until: time.Unix(int64(claims.Until), 0).UTC(),
		namespace: claims.Kubernetes.Namespace, account: claims.Kubernetes.Account.Name}, true
}

// Life is that of a cluster's token, and whether it ends at all. ErrNone, ErrKey.
func (s *Store) Life(ctx context.Context, cluster string) (Life, bool, error) {
	c, err := s.connect(ctx, cluster)
	if err != nil {
		return Life{}, false, err
	}
	return c.life, c.ends, nil
}

// Renew has a cluster's API server make the account's next token, for as long as
// the present one was made for, and keeps it. The present one stays good until its
// end. ErrNone, ErrKey, ErrNotRenewable, what the API server says.
func (s *Store) Renew(ctx context.Context, cluster string) error {
	record, revision, err := s.Get(ctx, cluster)
	if err != nil {
		return err
	}
	c, err := newConnection(record)
	if err != nil {
		return fmt.Errorf("credentials of %s: %w", cluster, err)
	}
	defer c.transport.CloseIdleConnections()
	if !c.ends {
		return nil
	}
	if c.life.account == "" {
		return ErrNotRenewable
	}
	client, err := kubernetes.NewForConfig(c.config)
	if err != nil {
		return fmt.Errorf("reach the API server of %s: %w", cluster, err)
	}
	seconds := int64(c.life.Until.Sub(c.life.From) / time.Second)
	made, err := client.CoreV1().ServiceAccounts(c.life.namespace).CreateToken(ctx, c.life.account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("create a token of ServiceAccount %s/%s: %w", c.life.namespace, c.life.account, err)
	}
	if record.Kubeconfig, err = withToken(record.Kubeconfig, made.Status.Token); err != nil {
		return fmt.Errorf("credentials of %s: %w", cluster, err)
	}
	return s.put(ctx, cluster, record, revision)
}

// withToken is a kubeconfig of Check with another token.
func withToken(text []byte, token string) ([]byte, error) {
	config, err := clientcmd.Load(text)
	if err != nil {
		return nil, err
	}
	for _, user := range config.AuthInfos { // the only one
		user.Token = token
	}
	text, err = clientcmd.Write(*config)
	if err != nil {
		return nil, err
	}
	return Check(text)
}
