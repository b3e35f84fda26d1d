package promtest

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/common/model"
	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"
)

const (
	configFile    = "prometheus.yml"
	webConfigFile = "web.yml"

	// defaultInterval leaves a target on a busy machine the time to answer.
	defaultInterval = 500 * time.Millisecond
)

// Scrape is one scrape configuration.
type Scrape struct {
	// Job is the job's name: the label job of what is scraped. Each Scrape needs its own.
	Job string
	// Targets are scraped over http, at /metrics: their host:port, such as Target.Address.
	Targets []string
	// Labels are added to what is scraped. The label instance is the target's host:port unless it is set here.
	Labels map[string]string
	// Interval is the time from scrape to scrape, and what a target may take to answer: at least 1ms, default 500ms.
	Interval time.Duration
	// NativeHistograms stores native histograms as such. Prometheus keeps only their count and sum otherwise.
	NativeHistograms bool
}

// These are the parts of Prometheus's configuration that are used here.
type (
	config struct {
		ScrapeConfigs []scrapeConfig `json:"scrape_configs,omitempty"`
	}
	scrapeConfig struct {
		JobName                string         `json:"job_name"`
		ScrapeInterval         string         `json:"scrape_interval"`
		ScrapeTimeout          string         `json:"scrape_timeout"`
		ScrapeNativeHistograms bool           `json:"scrape_native_histograms"`
		StaticConfigs          []staticConfig `json:"static_configs"`
	}
	staticConfig struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels,omitempty"`
	}
	webConfig struct {
		TLSServerConfig *tlsServerConfig  `json:"tls_server_config,omitempty"`
		BasicAuthUsers  map[string]string `json:"basic_auth_users,omitempty"`
	}
	tlsServerConfig struct {
		Cert           string `json:"cert"`
		Key            string `json:"key"`
		ClientAuthType string `json:"client_auth_type,omitempty"`
		ClientCA       string `json:"client_ca,omitempty"`
	}
)

// configure writes the configuration files. It returns how a client connects, nil without TLS.
func (p *Prometheus) configure(o Options) (*tls.Config, error) {
	scraped, err := scrapeConfigs(o.Scrape)
	if err != nil {
		return nil, err
	}
	if err := writeYAML(filepath.Join(p.dir, configFile), config{scraped}); err != nil {
		return nil, err
	}
	var web webConfig
	if o.BasicAuth != nil {
		hash, err := bcrypt.GenerateFromPassword([]byte(o.BasicAuth.Password), bcrypt.MinCost)
		if err != nil {
			return nil, fmt.Errorf("hashing the password: %w", err)
		}
		web.BasicAuthUsers = map[string]string{o.BasicAuth.Username: string(hash)}
	}
	var client *tls.Config
	if o.TLS || o.RequireClientCert {
		certs, err := newCertificates()
		if err != nil {
			return nil, err
		}
		if client, err = certs.clientConfig(); err != nil {
			return nil, err
		}
		p.CACert, p.ClientCert, p.ClientKey = certs.ca, certs.clientCert, certs.clientKey
		web.TLSServerConfig = &tlsServerConfig{Cert: string(certs.serverCert), Key: string(certs.serverKey)}
		if o.RequireClientCert {
			web.TLSServerConfig.ClientAuthType = "RequireAndVerifyClientCert"
			web.TLSServerConfig.ClientCA = string(certs.ca)
		}
	}
	return client, writeYAML(filepath.Join(p.dir, webConfigFile), web)
}

func scrapeConfigs(scrapes []Scrape) ([]scrapeConfig, error) {
	var configs []scrapeConfig
	for _, s := range scrapes {
		interval := s.Interval
		if interval == 0 {
			interval = defaultInterval
		}
		if interval < time.Millisecond {
			return nil, fmt.Errorf("the job %s is to be scraped every %s: Prometheus does not scrape more often than every 1ms",
				s.Job, interval)
		}
		configs = append(configs, scrapeConfig{
			JobName:                s.Job,
			ScrapeInterval:         model.Duration(interval).String(),
			ScrapeTimeout:          model.Duration(interval).String(),
			ScrapeNativeHistograms: s.NativeHistograms,
			StaticConfigs:          []staticConfig{{Targets: s.Targets, Labels: s.Labels}},
		})
	}
	return configs, nil
}

func writeYAML(path string, content any) error {
	encoded, err := yaml.Marshal(content)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", filepath.Base(path), err)
	}
	return os.WriteFile(path, encoded, 0o600)
}
