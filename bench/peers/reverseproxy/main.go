// A peer of the benchmark: httputil.ReverseProxy with TLS and client certificates on both sides.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
)

func main() {
	directory, listen, backend, name := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	runtime.GOMAXPROCS(1)
	file := func(name string) string { return filepath.Join(directory, name) }
	pem, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	own, err := tls.LoadX509KeyPair(file("client.crt"), file("client.key"))
	if err != nil {
		log.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "https", Host: backend})
	proxy.Transport = &http.Transport{
		MaxIdleConnsPerHost: 256,
		DisableCompression:  true,
		TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{own}},
	}
	direct := proxy.Director
	proxy.Director = func(request *http.Request) {
		direct(request)
		request.Header.Set("X-Remote-User", "bench")
		request.Header.Set("X-Remote-Group", "system:authenticated")
	}
	server := &http.Server{
		Addr:      listen,
		Handler:   proxy,
		TLSConfig: &tls.Config{ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven},
	}
	log.Fatal(server.ListenAndServeTLS(file("proxy.crt"), file("proxy.key")))
}
