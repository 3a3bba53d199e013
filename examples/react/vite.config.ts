import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const target = `http://localhost:${process.env.SIGNALLING_PORT ?? 1111}`;

export default defineConfig({
  plugins: [react()],
  // The page and the signalling have one origin, as behind a proxy in production.
  server: { port: Number(process.env.SITE_PORT ?? 8000), proxy: { "/echo": { target, ws: true } } },
});
