// Package bucket puts the files of an export, and the archive's, into a bucket that
// speaks S3, and reads them back. It sends each file with its SHA-256, which the server compares and keeps beside it,
// in path style; credentials come from a file that is read again when it changes.
// It makes no bucket and sets no policy.
package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Config says where a bucket is.
type Config struct {
	URL             string // https://HOST[:PORT]/BUCKET[/PREFIX]
	Region          string // "" is us-east-1
	CredentialsFile string // as AWS has them: aws_access_key_id and aws_secret_access_key of Profile
	Profile         string // "" is default
}

// Validate lists what is wrong.
func (c Config) Validate() error {
	_, _, _, err := c.parts()
	if err == nil && c.CredentialsFile == "" {
		return fmt.Errorf("bucket %s: name a file with its credentials", c.URL)
	}
	return err
}

// parts are the server, the bucket and the prefix of the names in it.
func (c Config) parts() (server *url.URL, bucket, prefix string, err error) {
	server, err = url.Parse(c.URL)
	if err == nil && server.User != nil {
		return nil, "", "", errors.New("bucket: its URL holds a name or password: credentials belong in a file")
	}
	if err != nil || server.Host == "" || server.Scheme != "https" && server.Scheme != "http" || server.RawQuery != "" {
		return nil, "", "", fmt.Errorf("bucket %q: want https://HOST/BUCKET or https://HOST/BUCKET/PREFIX", c.URL)
	}
	bucket, prefix, _ = strings.Cut(strings.Trim(server.Path, "/"), "/")
	if bucket == "" {
		return nil, "", "", fmt.Errorf("bucket %q: it names no bucket: want https://HOST/BUCKET", c.URL)
	}
	return server, bucket, prefix, nil
}

// Bucket is a bucket as a focus.Sink.
type Bucket struct {
	client         *minio.Client
	bucket, prefix string
}

// Open prepares requests; it does not speak to the server yet.
func Open(config Config, transport http.RoundTripper) (*Bucket, error) {
	server, name, prefix, err := config.parts()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(config.CredentialsFile); err != nil {
		return nil, fmt.Errorf("bucket %s: %w", config.URL, err)
	}
	region := config.Region
	if region == "" {
		region = "us-east-1" // S3's own; servers that have none take it
	}
	client, err := minio.New(server.Host, &minio.Options{Secure: server.Scheme == "https", Region: region, BucketLookup: minio.BucketLookupPath,
		Transport: transport, MaxRetries: 3, Creds: credentials.NewFileAWSCredentials(config.CredentialsFile, config.Profile)})
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", config.URL, err)
	}
	return &Bucket{client: client, bucket: name, prefix: prefix}, nil
}

// PutFile is Put of a file by its name in the bucket, its path, SHA-256 and size.
func (b *Bucket) PutFile(ctx context.Context, name, path, sha256 string, bytes int64) error {
	return b.Put(ctx, focus.File{Name: name, Path: path, SHA256: sha256, Bytes: bytes})
}

// List calls fn with the names of all objects, until it fails.
func (b *Bucket) List(ctx context.Context, fn func(name string) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	start := ""
	if b.prefix != "" {
		start = b.prefix + "/"
	}
	for object := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: start, Recursive: true}) {
		if object.Err != nil {
			return fmt.Errorf("list bucket %s: %w", b.bucket, object.Err)
		}
		if err := fn(strings.TrimPrefix(object.Key, start)); err != nil {
			return err
		}
	}
	return nil
}

// Fetch reads an object. Error: os.ErrNotExist where there is none.
func (b *Bucket) Fetch(ctx context.Context, name string, to io.Writer) error {
	object, err := b.client.GetObject(ctx, b.bucket, path.Join(b.prefix, name), minio.GetObjectOptions{})
	if err == nil {
		_, err = io.Copy(to, object)
		err = errors.Join(err, object.Close())
	}
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		err = os.ErrNotExist
	}
	if err != nil {
		return fmt.Errorf("fetch %s from bucket %s: %w", name, b.bucket, err)
	}
	return nil
}

// Put sends a file. An object is seen whole or not at all.
func (b *Bucket) Put(ctx context.Context, file focus.File) error {
	from, err := os.Open(file.Path)
	if err != nil {
		return fmt.Errorf("send %s: %w", file.Name, err)
	}
	defer func() { _ = from.Close() }() // it was only read
	sum := sha256.New()
	if _, err := io.Copy(sum, from); err != nil {
		return fmt.Errorf("send %s: %w", file.Name, err)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != file.SHA256 {
		return fmt.Errorf("send %s: its SHA-256 is %s, want %s", file.Name, got, file.SHA256)
	}
	if _, err := from.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("send %s: %w", file.Name, err)
	}
	options := minio.PutObjectOptions{ContentType: contentType(file.Name), DisableMultipart: file.Bytes < 5<<30,
		UserMetadata: map[string]string{"Sha256": file.SHA256, "X-Amz-Checksum-Sha256": base64.StdEncoding.EncodeToString(sum.Sum(nil))}}
	sent, err := b.client.PutObject(ctx, b.bucket, path.Join(b.prefix, file.Name), from, file.Bytes, options)
	if err != nil {
		return fmt.Errorf("send %s to bucket %s: %w", file.Name, b.bucket, err)
	}
	if want := base64.StdEncoding.EncodeToString(sum.Sum(nil)); sent.ChecksumSHA256 != "" && sent.ChecksumSHA256 != want {
		return fmt.Errorf("send %s to bucket %s: the server has SHA-256 %s, want %s", file.Name, b.bucket, sent.ChecksumSHA256, want)
	}
	return nil
}

// Prune removes data files that are not kept.
func (b *Bucket) Prune(ctx context.Context, dir string, keep []string) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	start := path.Join(b.prefix, dir) + "/"
	for object := range b.client.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: start}) {
		if object.Err != nil {
			return fmt.Errorf("list %s of bucket %s: %w", dir, b.bucket, object.Err)
		}
		base := strings.TrimPrefix(object.Key, start)
		if strings.Contains(base, "/") || !focus.IsData(base) || slices.Contains(keep, path.Join(dir, base)) {
			continue
		}
		if err := b.client.RemoveObject(ctx, b.bucket, object.Key, minio.RemoveObjectOptions{}); err != nil {
			return fmt.Errorf("remove %s of an earlier export from bucket %s: %w", object.Key, b.bucket, err)
		}
	}
	return nil
}

// Sum is the SHA-256 that an object was sent with, in hex; "" where there is no
// object.
func (b *Bucket) Sum(ctx context.Context, name string) (string, error) {
	found, err := b.client.StatObject(ctx, b.bucket, path.Join(b.prefix, name), minio.StatObjectOptions{})
	var answer minio.ErrorResponse
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look up %s in bucket %s: %w", name, b.bucket, err)
	}
	return found.UserMetadata["Sha256"], nil
}

func contentType(name string) string {
	switch path.Ext(name) {
	case ".json":
		return "application/json"
	case ".csv":
		return "text/csv; charset=utf-8"
	case ".gz":
		return "application/gzip"
	}
	return "application/vnd.apache.parquet"
}
