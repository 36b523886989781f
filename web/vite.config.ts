// How the three pages become files: relative addresses, nothing inline and nothing from elsewhere, so that they work below
// any path and under a strict Content-Security-Policy.

import { defineConfig } from 'vite';

/** Where `npm run dev` finds a server: the stub, or a running `roombridge dev`. */
const server = process.env['ROOMBRIDGE_WEB'] ?? 'http://127.0.0.1:8080';

export default defineConfig({
  base: './',
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: 'licenses.md' },
    rolldownOptions: {
      input: ['index.html', 'teacher.html', 'student.html'],
      output: {
        // The MQTT client is most of the weight and changes least: a file of its own stays in the browsers' caches.
        codeSplitting: { groups: [{ name: 'mqtt', test: /node_modules/u }] },
      },
    },
  },
  server: { proxy: { '/api': { target: server, changeOrigin: true } } },
});
