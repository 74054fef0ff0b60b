// SPDX-License-Identifier: MIT
import { mount } from 'svelte';
import App from './App.svelte';
import { words } from './lib/i18n.svelte';
import './styles/base.css';

// The words first, so that nothing is shown in one language and changed into another.
await words.start().catch(() => undefined);
mount(App, { target: document.getElementById('app') as HTMLElement });
