"""The words that come with a folder for browsers."""

README = """{name} in the browser
{line}

This folder is the whole application: copy it to any static web server, at any address below it, and open index.html
there. Nothing is loaded from elsewhere. After the first visit it works without a network and can be installed.

To try it here:    python3 -m http.server --directory . 8000     then open http://localhost:8000
(A browser does not run it from a file:// address.)

Needed: a browser with WebAssembly and modules (Chrome or Edge 113, Firefox 115, Safari 17 or newer), and about
{memory} MB of memory. One thread is used{threads}.
A server that sends the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: require-corp
lets larger models use more than one thread; without them it works with one. https (or localhost) is needed to install.

model.gguf is for this page only: its special tokens bear other names, so that text which a user writes cannot be taken
for one of them. For other programs export the model with --to gguf.

wllama/ is @wllama/wllama {version} (MIT, see wllama/LICENCE), which holds llama.cpp (MIT).
"""
