import './style/base.css';
import './style/parts.css';
import { startRoomPage } from './ui/room_page';

void startRoomPage('student');
