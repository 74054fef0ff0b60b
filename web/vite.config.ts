// SPDX-License-Identifier: MIT
// How the studio is built. The result in dist/ is committed and becomes part of the program, so it must be the same
// byte for byte on every machine: no dates, no paths, names made from content only.
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';
import { icons, type IconName } from './src/lib/icons';

// While working on the page, the interface comes from a server that runs beside it. It refuses pages of other origins,
// which is right; the proxy speaks for itself and not for the page.
const proxy = {
    '/v1': {
        target: process.env.LIMN_SERVER ?? 'http://127.0.0.1:7860',
        changeOrigin: true,
        configure: (to: { on(event: 'proxyReq', act: (request: { removeHeader(name: string): void }) => void): void }) =>
            to.on('proxyReq', (request) => request.removeHeader('origin')),
    },
};

// <!-- icon NAME SIZE --> in index.html becomes the drawing that Icon.svelte makes of it.
const drawn = (html: string): string => html.replace(/<!-- icon (\w+) (\d+) -->/g, (_all, name: string, size: string) =>
    `<svg width="${size}" height="${size}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"><path d="${icons[name as IconName]}"/></svg>`);

export default defineConfig({
    plugins: [svelte({ compilerOptions: { runes: true, dev: false } }), { name: 'icons', transformIndexHtml: drawn }],
    build: {
        target: 'es2023',
        outDir: 'dist',
        emptyOutDir: true,
        assetsInlineLimit: 0,
        modulePreload: { polyfill: false },
        reportCompressedSize: false,
        sourcemap: false,
        rolldownOptions: {
            output: {
                entryFileNames: 'assets/[name]-[hash].js',
                chunkFileNames: 'assets/[name]-[hash].js',
                // One file for what screens share: a dozen small ones would wait for each other on six connections.
                codeSplitting: { groups: [{ name: 'base', test: /node_modules|src\/(components|lib)\// }] },
                assetFileNames: 'assets/[name]-[hash][extname]',
            },
        },
    },
    server: { port: 5173, proxy },
    preview: { port: 5174, proxy },
    test: {
        environment: 'node',
        include: ['test/**/*.test.ts'],
        testTimeout: 120_000, // a busy machine is no failure
    },
    resolve: process.env.VITEST ? { conditions: ['browser'] } : undefined,
});
