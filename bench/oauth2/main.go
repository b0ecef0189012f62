// Oauth2 is a server made with github.com/go-oauth2/oauth2 that keeps its
// tokens in memory, with the endpoints of grantling that are measured.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/go-oauth2/oauth2/v4/manage"
	"github.com/go-oauth2/oauth2/v4/models"
	"github.com/go-oauth2/oauth2/v4/server"
	"github.com/go-oauth2/oauth2/v4/store"
)

func main() {
	manager := manage.NewDefaultManager()
	manager.MustTokenStorage(store.NewMemoryTokenStore())
	clients := store.NewClientStore()
	clients.Set("web", &models.Client{ID: "web", Secret: "web-secret", Domain: "https://cb.example", UserID: "alice"})
	manager.MapClientStorage(clients)
	srv := server.NewDefaultServer(manager)
	srv.SetClientInfoHandler(server.ClientFormHandler)

	http.HandleFunc("POST /oauth/token", func(w http.ResponseWriter, r *http.Request) {
		if err := srv.HandleTokenRequest(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	http.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		token, err := srv.ValidationBearerToken(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		writeJSON(w, map[string]any{"sub": token.GetUserID(), "client_id": token.GetClientID(), "scope": token.GetScope()})
	})
	http.HandleFunc("POST /oauth/introspect", func(w http.ResponseWriter, r *http.Request) {
		client, err := manager.GetClient(r.Context(), r.FormValue("client_id"))
		if err != nil || client.GetSecret() != r.FormValue("client_secret") {
			http.Error(w, "invalid_client", http.StatusUnauthorized)
			return
		}
		token, err := manager.LoadAccessToken(r.Context(), r.FormValue("token"))
		if err != nil {
			writeJSON(w, map[string]any{"active": false})
			return
		}
		created := token.GetAccessCreateAt()
		writeJSON(w, map[string]any{
			"active": true, "client_id": token.GetClientID(), "scope": token.GetScope(), "token_type": "Bearer",
			"iat": created.Unix(), "exp": created.Add(token.GetAccessExpiresIn()).Unix(),
		})
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func writeJSON(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(body)
}
