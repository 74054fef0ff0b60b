// SPDX-License-Identifier: MIT
import { mount } from 'svelte';
import App from './App.svelte';
import { words } from './lib/i18n.svelte';
import './styles/base.css';
import './styles/shell.css';

// The words first, so that nothing is shown in one language and changed into another.
await words.start().catch(() => undefined);
/* After the browser has shown what index.html holds: making the studio takes long enough to be seen. A hidden page has no frames. */
if (document.visibilityState === 'visible') await new Promise((shown) => requestAnimationFrame(() => setTimeout(shown)));
const target = document.getElementById('app') as HTMLElement;
target.replaceChildren(); // what index.html shows until now
mount(App, { target });
delete document.documentElement.dataset.first;
