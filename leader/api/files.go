package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/accumulus-metering/accumulus/internal/usage"
	"github.com/accumulus-metering/accumulus/leader/focus"
	"github.com/accumulus-metering/accumulus/leader/query"
)

// Exporter makes exports that are files: *leader.Leader.
type Exporter interface {
	PrepareExport(ctx context.Context, request ExportRequest) (*focus.Prepared, error)
}

// ExportRequest is a question for files.
type ExportRequest struct {
	focus.Request
	Format      string // FormatFocus or FormatOpenCost
	Version     focus.Version
	Compression focus.Compression
}

// The formats that are files.
const (
	FormatFocus    = "focus"
	FormatOpenCost = "opencost-csv"
)

// FilesType is the media type of an archive of files.
const FilesType = "application/x-tar"

// exportFiles answers with an archive, whose last file is the manifest. Nothing is
// sent before all of it is made.
func (s *Server) exportFiles(w http.ResponseWriter, r *http.Request, values url.Values) (err error) {
	request := ExportRequest{Format: values.Get("format"), Request: focus.Request{Period: values.Get("period"), Customer: values.Get("customer")}}
	if request.RequireComplete, err = usage.ParseFlag(values, "requireComplete"); err != nil {
		return err
	}
	if request.Step, err = usage.ParseStep(values.Get("step")); err != nil {
		return err
	}
	if request.Version, err = focus.ParseVersion(values.Get("focusVersion")); err != nil {
		return &query.InputError{Parameter: "focusVersion", Value: values.Get("focusVersion"), Hint: "use 1.4 or 1.2"}
	}
	if request.Compression, err = focus.ParseCompression(values.Get("compression")); err != nil {
		return &query.InputError{Parameter: "compression", Value: values.Get("compression"), Hint: "use gzip, none or parquet"}
	}
	if request.Labels, err = focus.ParseLabels(values.Get("labels")); err != nil {
		return err
	}
	if request.Labels != nil && request.Format != FormatOpenCost {
		return &query.InputError{Parameter: "labels", Value: values.Get("labels"), Hint: "it goes with format=opencost-csv"}
	}
	if request.Customer, err = ownCustomer(r, request.Customer); err != nil {
		return err
	}
	prepared, err := s.deps.Exporter.PrepareExport(r.Context(), request)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, prepared.Close()) }()
	w.Header().Set("Content-Type", FilesType)
	w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="accumulus-%s-%s.tar"`, request.Format, fileSafe(request.Period)))
	archive := focus.NewTar(w)
	if err := prepared.Send(r.Context(), archive); err != nil {
		return err
	}
	return archive.Close()
}
