package api

import (
	"net/http"

	"github.com/accumulus-metering/accumulus/internal/usage"
)

// question reads what is asked of energy, heat or carbon; csv is the form of the
// answer. What is known beside the parameters of usage stands in more.
func question(r *http.Request, more ...string) (request usage.Request, csv, days bool, err error) {
	if request, err = usage.ParseRequest(r.URL.RawQuery, append(more, "format")...); err != nil {
		return request, false, false, err
	}
	values := r.URL.Query()
	if err := usage.Once(values, append(more, "format")...); err != nil {
		return request, false, false, err
	}
	if format := values.Get("format"); format != "" && format != "csv" && format != "json" {
		return request, false, false, usage.Wrong("format", format, "use csv or json")
	}
	days, err = usage.ParseFlag(values, "days")
	csv = values.Get("format") == "csv"
	if err == nil && days && csv {
		err = usage.Wrong("days", "true", "CSV holds the rows alone: ask for days as JSON")
	}
	return request, csv, days, err
}

// csvHead is the head of an answer in CSV.
func csvHead(w http.ResponseWriter, name string) {
	w.Header().Set("Content-Type", "text/csv; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="accumulus-`+name+`.csv"`)
}

func (s *Server) energy(w http.ResponseWriter, r *http.Request) error {
	request, csv, _, err := question(r)
	if err != nil {
		return err
	}
	answer, err := s.deps.Answers.Energy(r.Context(), request)
	if err != nil {
		return err
	}
	if csv {
		csvHead(w, "energy")
		return usage.WriteFiguresCSV(w, answer.Aggregate, answer.Rows)
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) heat(w http.ResponseWriter, r *http.Request) error {
	request, csv, days, err := question(r, "days")
	if err != nil {
		return err
	}
	answer, err := s.deps.Answers.Heat(r.Context(), request, days)
	if err != nil {
		return err
	}
	if csv {
		csvHead(w, "heat")
		return usage.WriteFiguresCSV(w, answer.Aggregate, answer.Rows)
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) carbon(w http.ResponseWriter, r *http.Request) error {
	request, csv, days, err := question(r, "days")
	if err != nil {
		return err
	}
	answer, err := s.deps.Answers.Carbon(r.Context(), request, days)
	if err != nil {
		return err
	}
	if csv {
		csvHead(w, "carbon")
		return usage.WriteFiguresCSV(w, answer.Aggregate, answer.Rows)
	}
	return writeJSON(w, http.StatusOK, answer)
}
